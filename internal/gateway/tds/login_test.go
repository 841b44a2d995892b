package tds_test

import (
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// TestLogin: go-mssqldb logs in with a token in every way it can encrypt and
// show one, to servers that encrypt in every way.
func TestLogin(t *testing.T) {
	for name, c := range map[string]struct {
		how    how
		server tdstest.Options
		strict bool // at the backend
	}{
		"token in the login":              {},
		"token after FEDAUTHINFO":         {how: how{library: mssql.FedAuthLibraryADAL}},
		"strict, token in the login":      {how: how{more: "encrypt=strict"}},
		"strict, token after FEDAUTHINFO": {how: how{more: "encrypt=strict", library: mssql.FedAuthLibraryADAL}},
		"no wish for encryption":          {how: how{more: "encrypt=false"}},
		"large packets":                   {how: how{more: "packet size=32767"}},
		"plain backend":                   {server: tdstest.Options{Encryption: tdstest.NotSupported}},
		"strict backend":                  {strict: true},
		"strict both":                     {how: how{more: "encrypt=strict"}, strict: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, c.server, func(_ *tds.Config, d *door) {
				if c.strict {
					d.grant.TLS.NextProtos = []string{"tds/8.0"}
				}
			})
			var spn, sts string
			c.how.asked = func(a, b string) { spn, sts = a, b }
			conn := d.mustConnect(t, c.how)
			if got := ask(t, conn, "SELECT SUSER_SNAME()") + " " + ask(t, conn, "SELECT DB_NAME()"); got != "app appdb" {
				t.Errorf("in as %q", got)
			}
			if got := ask(t, conn, "SELECT @p1", "größer"); got != "größer" {
				t.Errorf("a parameter came back as %q", got)
			}
			if c.how.library == mssql.FedAuthLibraryADAL && (spn != "https://database.windows.net/" || sts != stsURL) {
				t.Errorf("the client was sent to %q for %q", sts, spn)
			}
			seen := d.sql.Seen()
			if l := seen[len(seen)-1]; l.User != "app" || l.Password != secret || l.Database != "appdb" || len(l.Features) != 0 {
				t.Errorf("the server was asked for %+v", l)
			}
			if a := d.targets(); len(a) != 1 || a[0].Server != "s1" || a[0].Database != "appdb" || a[0].User != "" {
				t.Errorf("asked for %+v", a)
			}
		})
	}
}
