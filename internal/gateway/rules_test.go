package gateway

import (
	"context"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

// TestASessionIsHeldToTheServerItGot: a client that named no server got the
// only one; a second one must not end its session.
func TestASessionIsHeldToTheServerItGot(t *testing.T) {
	first := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg1")
	a := Authorize(func(_ context.Context, _ az.Principal, want Target) (Grant, error) {
		if !want.Again || want.Server != "pg1" {
			return Grant{}, az.Errorf(az.Invalid, "ServerNotNamed", "name a server")
		}
		return Grant{Server: first, User: want.User, Database: want.Database}, nil
	})
	s := Session{Target: Target{Database: "d", User: "u"}, Grant: Grant{Server: first, User: "u", Database: "d"}}
	if err := a.Still()(t.Context(), s); err != nil {
		t.Error(err)
	}
	s.Grant.User = "another"
	if err := a.Still()(t.Context(), s); err == nil {
		t.Error("a grant that leads elsewhere was taken for the same")
	}
}
