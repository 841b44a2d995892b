package connector

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// targets are the things besides PostgreSQL that a connection can lead to.
// They are whole as resources: properties, children, keys, rights.
type targets struct {
	storage      *arm.Type[storageProperties]
	blobServices *arm.Type[blobServiceProperties]
	containers   *arm.Type[containerProperties]

	cosmos           *arm.Type[cosmosProperties]
	cosmosDatabases  *arm.Type[cosmosDatabaseProperties]
	cosmosContainers *arm.Type[cosmosContainerProperties]
	cosmosRoles      *arm.Type[cosmosRoleProperties]
	cosmosAssigns    *arm.Type[cosmosAssignmentProperties]

	sqlServers   *arm.Type[sqlServerProperties]
	sqlDatabases *arm.Type[sqlDatabaseProperties]
	sqlAdmins    *arm.Type[sqlAdministratorProperties]
	sqlFirewall  *arm.Type[firewallProperties]
	sqlOnly      *arm.Type[sqlOnlyProperties]

	mysqlServers   *arm.Type[mysqlServerProperties]
	mysqlDatabases *arm.Type[mysqlDatabaseProperties]
	mysqlAdmins    *arm.Type[mysqlAdministratorProperties]
	mysqlFirewall  *arm.Type[firewallProperties]
	mysqlSettings  *arm.Type[mysqlSettingProperties]

	redis         *arm.Type[redisProperties]
	redisPolicies *arm.Type[redisPolicyProperties]
	redisAssigns  *arm.Type[redisAssignmentProperties]
	cognitive     *arm.Type[cognitiveProperties]
}

func (c *Connector) makeTargets() {
	c.storage, c.blobServices, c.containers = c.storageType(), c.blobServiceType(), c.containerType()
	c.cosmos, c.cosmosDatabases, c.cosmosContainers = c.cosmosType(), c.cosmosDatabaseType(), c.cosmosContainerType()
	c.cosmosRoles, c.cosmosAssigns = c.cosmosRoleType(), c.cosmosAssignmentType()
	c.sqlServers, c.sqlDatabases, c.sqlFirewall = c.sqlServerType(), c.sqlDatabaseType(), firewallTypeOf(SQLServerType, sqlVersions)
	c.sqlAdmins, c.sqlOnly = c.sqlAdministratorType(), c.sqlOnlyType()
	c.mysqlServers, c.mysqlDatabases, c.mysqlFirewall = c.mysqlServerType(), c.mysqlDatabaseType(), firewallTypeOf(MySQLServerType, mysqlVersions)
	c.mysqlAdmins, c.mysqlSettings = c.mysqlAdministratorType(), c.mysqlSettingType()
	c.redis, c.redisPolicies, c.redisAssigns, c.cognitive = c.redisType(), c.redisPolicyType(), c.redisAssignmentType(), c.cognitiveType()
}

// targetTypes are in the order in which they lean on each other.
func (c *Connector) targetTypes() []arm.AnyType {
	return []arm.AnyType{c.storage, c.blobServices, c.containers,
		c.cosmos, c.cosmosDatabases, c.cosmosContainers, c.cosmosRoles, c.cosmosAssigns,
		c.sqlServers, c.sqlDatabases, c.sqlFirewall, c.sqlAdmins, c.sqlOnly,
		c.mysqlServers, c.mysqlDatabases, c.mysqlFirewall, c.mysqlAdmins, c.mysqlSettings, c.redis, c.redisPolicies, c.redisAssigns, c.cognitive}
}

func (c *Connector) targetRoutes(api *arm.API) {
	c.storageRoutes(api)
	c.cosmosRoutes(api)
	c.sqlRoutes(api)
	c.mysqlRoutes(api)
	c.redisRoutes(api)
}

// keyBytes is the size of an account's key: 512 bits. Source: "Manage storage
// account access keys"; Cosmos DB's master keys have the same form.
const keyBytes = 64

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// newKey makes an account's key in the form that clients decode.
func newKey() az.Secret {
	return az.NewSecret(base64.StdEncoding.EncodeToString(randomBytes(keyBytes)))
}

// newHexKey makes a key in the form of Cognitive Services.
func newHexKey() az.Secret { return az.NewSecret(hex.EncodeToString(randomBytes(32))) }

// withKeys gives a resource those of the named keys that it does not have.
func withKeys[P any](r *arm.Resource[P], made func() az.Secret, names ...string) {
	if r.Secrets == nil {
		r.Secrets = map[string]az.Secret{}
	}
	for _, n := range names {
		if r.Secrets[n].IsZero() {
			r.Secrets[n] = made()
		}
	}
}

// keysOf gives the plane the keys of an account; none if it is not there.
func keysOf[P any](ctx context.Context, t *arm.Type[P], id az.ID, names ...string) (keys []az.Secret, err error) {
	r, err := t.Load(ctx, id)
	if err != nil || r == nil {
		return nil, err
	}
	for _, name := range names {
		keys = append(keys, r.Secrets[name])
	}
	return keys, nil
}

// rekey replaces one key of a resource. The right to do so was asked for
// already, and it is another one than that to write the resource.
func rekey[P any](ctx context.Context, st *store.Store, t *arm.Type[P], id az.ID, change func(*arm.Resource[P], time.Time)) (out *arm.Resource[P], err error) {
	err = st.Write(ctx, func(tx *store.Tx) error {
		out, err = t.Read(tx, id)
		if err != nil {
			return err
		}
		if out == nil {
			return az.Errorf(az.NotFound, "ResourceNotFound", "The resource '%s' was deleted meanwhile.", id.Name())
		}
		change(out, tx.Now().Time())
		return t.Write(tx, out)
	})
	return out, err
}

// label is the form of a resource's name that becomes a part of a host name.
type label struct {
	min, max int
	dashes   bool
	upper    bool // capitals are taken; the host name is the same
}

func (l label) ok(s string) bool {
	if len(s) < l.min || len(s) > l.max || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-' && l.dashes, l.upper && c >= 'A' && c <= 'Z':
		default:
			return false
		}
	}
	return true
}

// onlyOne keeps a new resource's name unique on the plane: it is a host name.
func onlyOne(tx *store.Tx, typ string, id az.ID, taken *az.Error) error {
	all, err := tx.Resources(store.ResourceQuery{Type: typ})
	if err != nil {
		return err
	}
	for _, row := range all {
		if strings.EqualFold(row.ID.Name(), id.Name()) && !row.ID.Equal(id) {
			return taken
		}
	}
	return nil
}

func (c *Connector) nameTaken(ctx context.Context, typ, name string) (bool, error) {
	all, err := c.cfg.Store.Resources(ctx, store.ResourceQuery{Type: typ})
	for _, row := range all {
		if strings.EqualFold(row.ID.Name(), name) {
			return true, err
		}
	}
	return false, err
}

// or is a JSON value, or a standard one where there is none.
func or(v json.RawMessage, standard string) json.RawMessage {
	if len(v) == 0 || string(v) == "null" {
		return json.RawMessage(standard)
	}
	return v
}

func orText(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

// located gives a resource a place if the body names none.
func located[P any](r *arm.Resource[P]) {
	if r.Location == "" {
		r.Location = arm.DefaultLocation
	}
}

// skuName is the name in a sku block.
func skuName(sku json.RawMessage) (name string) {
	var s struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(sku, &s) == nil {
		name = s.Name
	}
	return name
}

// keep refuses to delete a part that its resource cannot be without; only the
// deletion of the resource takes it along.
func keep(api *arm.API, typ, name string) {
	ns, rest, _ := strings.Cut(typ, "/")
	path := "{scope}/providers/" + ns
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		path += "/" + p
		if i < len(parts)-1 {
			path += "/{name" + p + "}"
		}
	}
	api.Handle(http.MethodDelete, path+"/"+name, guard.Control(typ+"/delete"), func(_ context.Context, call *arm.Call) (any, error) {
		return nil, az.Errorf(az.Invalid, "CannotDelete", "'%s' is a part of its resource and cannot be deleted alone.", name)
	})
}

// endpoint is the URL of a named resource under one of the plane's suffixes.
func (c *Connector) endpoint(name, suffix string) string {
	return "https://" + c.cfg.Names.HostPort(strings.ToLower(name)+"."+suffix+"."+c.cfg.Names.Domain) + "/"
}
