package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// routes adds what az asks for beside the resources (wire/arm-graph.md §4).
func (c *Connector) routes(api *arm.API) {
	var everybody guard.Action
	const provider = "/subscriptions/{subscription}/providers/Microsoft.DBforPostgreSQL/"
	for _, path := range []string{"checkNameAvailability", "locations/{location}/checkNameAvailability"} {
		api.Handle(http.MethodPost, provider+path, everybody, c.checkNameAvailability)
	}
	api.Handle(http.MethodGet, provider+"locations/{location}/capabilities", everybody, capabilities)
	api.Handle(http.MethodGet, "{scope}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{server}/capabilities", everybody, capabilities)
	api.HandleOwn(http.MethodGet, "{scope}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{server}/replicas", c.noReplicas(ServerType))
	c.parameterRoutes(api)
	c.targetRoutes(api)
	// Not an action of the type: what it asks about need not be there yet.
	api.Handle(http.MethodPost, "{scope}/providers/Microsoft.ServiceLinker/linkers/{linker}/dryrun", guard.Control(LinkerType+"/dryrun/action"), c.dryRunLinker)
}

func (c *Connector) checkNameAvailability(ctx context.Context, call *arm.Call) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	reply := map[string]any{"name": in.Name, "nameAvailable": true, "reason": nil, "message": ""}
	refuse := func(reason, message string) (any, error) {
		reply["nameAvailable"], reply["reason"], reply["message"] = false, reason, message
		return reply, nil
	}
	if !validServerName(in.Name) {
		return refuse("Invalid", "A server's name must have 1 to 63 lower-case letters, digits and dashes, with no dash at either end.")
	}
	all, err := c.cfg.Store.Resources(ctx, store.ResourceQuery{Type: ServerType})
	if err != nil {
		return nil, err
	}
	for _, row := range all {
		if strings.EqualFold(row.ID.Name(), in.Name) {
			return refuse("AlreadyExists", "Specified server name is already used.")
		}
	}
	return reply, nil
}

// capabilitiesBody is what az 2.45 reads. No server here has a size, so the
// sizes mean nothing. Source: wire/arm-graph.md §6; az's list-skus shows
// nothing unless there are two zones.
var capabilitiesBody = func() json.RawMessage {
	edition := func(name string) string {
		return `{"name":"` + name + `","supportedStorageEditions":[{"name":"ManagedDisk","supportedStorageMB":[{"storageSizeMB":32768},{"storageSizeMB":131072}]}],` +
			`"supportedServerVersions":[` + strings.Join([]string{version("13"), version("14"), version("15"), version("16"), version("17")}, ",") + `]}`
	}
	zone := func(name string) string {
		return `{"zone":"` + name + `","supportedHAMode":["SameZone","ZoneRedundant"],"geoBackupSupported":true,"supportedFlexibleServerEditions":[` +
			edition("Burstable") + "," + edition("GeneralPurpose") + "," + edition("MemoryOptimized") + `]}`
	}
	return json.RawMessage(`{"value":[` + zone("none") + "," + zone("1") + `]}`)
}()

func version(v string) string {
	size := func(name string, cores, memory string) string {
		return `{"name":"` + name + `","vCores":` + cores + `,"supportedIops":640,"supportedMemoryPerVcoreMB":` + memory + `}`
	}
	return `{"name":"` + v + `","supportedVcores":[` + size("Standard_B1ms", "1", "2048") + "," + size("Standard_D2s_v3", "2", "4096") + "," + size("Standard_E2s_v3", "2", "8192") + `]}`
}

func capabilities(context.Context, *arm.Call) (any, error) { return capabilitiesBody, nil }
