package connector

import (
	"encoding/json"
	"strconv"
	"strings"
)

// mysqlAllows reads allowedValues: words or a span of numbers.
func mysqlAllows(allowed, value string) bool {
	if low, high, ok := strings.Cut(allowed, "-"); ok {
		a, err := strconv.Atoi(low)
		b, err2 := strconv.Atoi(high)
		if n, err3 := strconv.Atoi(value); err == nil && err2 == nil {
			return err3 == nil && n >= a && n <= b
		}
	}
	for _, v := range strings.Split(value, ",") {
		found := false
		for w := range strings.SplitSeq(allowed, ",") {
			found = found || v == w
		}
		if !found {
			return false
		}
	}
	return true
}

// mysqlCapabilities is the least that az 2.45 goes on with. Source:
// wire/arm-graph.md §6.
var mysqlCapabilities = func() json.RawMessage {
	edition := func(name, sku string) string {
		version := func(v string) string {
			return `{"name":"` + v + `","supportedSkus":[{"name":"` + sku + `","vCores":1,"supportedIops":640,"supportedMemoryPerVCoreMB":2048}]}`
		}
		return `{"name":"` + name + `","supportedStorageEditions":[{"name":"Premium","minStorageSize":20480,"maxStorageSize":16777216,"minBackupRetentionDays":1,"maxBackupRetentionDays":35,` +
			`"minBackupIntervalHours":24,"maxBackupIntervalHours":24}],"supportedServerVersions":[` + version("5.7") + "," + version("8.0.21") + `]}`
	}
	zone := func(name string) string { // az's list-skus shows nothing unless there are two
		return `{"zone":"` + name + `","supportedHAMode":["SameZone","ZoneRedundant"],"supportedGeoBackupRegions":["westeurope"],"supportedFlexibleServerEditions":[` +
			edition("Burstable", "Standard_B1ms") + "," + edition("GeneralPurpose", "Standard_D2ds_v4") + "," + edition("MemoryOptimized", "Standard_E2ds_v4") + `]}`
	}
	return json.RawMessage(`{"value":[` + zone("none") + "," + zone("1") + `]}`)
}()
