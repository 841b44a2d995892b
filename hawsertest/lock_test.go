package hawsertest_test

import (
	"strings"
	"testing"

	"github.com/hawser/hawser/hawsertest"
	"github.com/hawser/hawser/internal/server"
	"github.com/hawser/hawser/internal/store/storetest"
)

// TestADataDirectoryIsOnePlanes, also where the store is elsewhere: two planes
// would write one audit log, and the second would take the socket of the first.
func TestADataDirectoryIsOnePlanes(t *testing.T) {
	for name, url := range map[string]string{"sqlite": "", "postgres": storetest.Database(t)} {
		first := hawsertest.Start(t, hawsertest.Store(url))
		second, err := server.Start(t.Context(), server.Config{Listen: "127.0.0.1:0", PG: "off", MySQL: "off", TDS: "off", Redis: "off", Admin: "127.0.0.1:0", Hosts: "off", IMDS: "off", Data: first.Data, Store: url})
		if err == nil {
			_ = second.Close()
			t.Errorf("%s: a second plane was started in the first one's directory", name)
		} else if !strings.Contains(err.Error(), "another plane uses this data directory") {
			t.Errorf("%s: %v", name, err)
		}
		var status map[string]any
		if err := first.Client(t).Get(t.Context(), "/providers/Hawser.Status/status", &status); err != nil {
			t.Errorf("%s: the first plane is no longer there: %v", name, err)
		}
	}
}
