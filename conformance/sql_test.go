package conformance

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

const sqlAudience = "https://database.windows.net/"

// attachSQL attaches a peer that speaks TDS with the databases shop and other.
// No SQL Server can be had where these tests run: what is judged here is the
// clients' half of the gateway, and the connector's statements by a peer that
// knows them.
func (p *plane) attachSQL(server string) *tdstest.Catalog {
	p.t.Helper()
	s, c := tdstest.StartCatalog(p.t, tdstest.Options{}, "only a test's 1", "shop", "other")
	ca := filepath.Join(newDir(p.t), "sql.pem")
	if err := os.WriteFile(ca, s.CA(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	u := url.URL{Scheme: "sqlserver", User: url.UserPassword("sa", "only a test's 1"), Host: s.Addr(), Path: "/shop",
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}}.Encode()}
	p.cli("attach", server, u.String())
	return c
}

// TestSQL: every way of go-mssqldb and tedious to log in with a token.
func TestSQL(t *testing.T) {
	w := newWorld(t)
	w.attachSQL("sql1")
	w.cli("connect", "web", "sql1", "--type", "sql", "--database", "shop", "--client", "go", "--access", "read", "--name", "go_sql")
	w.make("app", "nodeweb")
	w.cli("connect", "nodeweb", "sql1", "--type", "sql", "--database", "shop", "--client", "nodejs", "--access", "read")
	robot := w.register("robot", nil)
	w.cli("principal", "add", "sql1", robot.Service, "--role", "robot", "--database", "shop", "--access", "read")
	token := w.token(sqlAudience, "web")
	goes := func(way string, more ...string) []string {
		return ecosystems[0].program("sql", append([]string{way}, more...)...)
	}
	node := func(way string, more ...string) []string {
		return ecosystems[1].program("sql", append([]string{way}, more...)...)
	}
	for _, c := range []struct {
		name, app, want string
		argv            []string
	}{
		{"go-mssqldb/ActiveDirectoryDefault", "web", "who web shop", goes("ActiveDirectoryDefault")},
		{"go-mssqldb/ActiveDirectoryMSI", "web", "who web shop", goes("ActiveDirectoryMSI")},
		{"go-mssqldb/ActiveDirectoryManagedIdentity", "web", "who web shop", goes("ActiveDirectoryManagedIdentity")},
		{"go-mssqldb/ServicePrincipalAccessToken", "web", "who web shop", goes("ActiveDirectoryServicePrincipalAccessToken", "password="+token)},
		{"go-mssqldb/strict", "web", "who web shop", goes("ActiveDirectoryDefault", "encrypt=strict")},
		{"tedious/access-token", "nodeweb", "who nodeweb shop", node("access-token", "default")},
		{"tedious/default", "nodeweb", "who nodeweb shop", node("default")},
		{"tedious/msi-app-service", "nodeweb", "who nodeweb shop", node("msi-app-service")},
		{"tedious/token-credential", "nodeweb", "who nodeweb shop", node("token-credential", "managed")},
		{"tedious/strict", "nodeweb", "who nodeweb shop", append([]string{"env", "SQL_ENCRYPT=strict"}, node("default")...)},
		{"tedious/SQL login", "nodeweb", "refused Login failed for user 'sa'.", node("login")},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.as(t)
			lines(t, w.run(c.app, nil, c.argv...), c.want)
		})
	}
	// A service principal is no managed identity: it has its own settings.
	_, port, _ := strings.Cut(w.env.Gateways["tds"], ":")
	host := "sql1.database." + domain
	own := []string{"AZURE_SQL_CONNECTIONSTRING=" + fmt.Sprintf("server=%s;port=%s;database=shop;fedauth=ActiveDirectoryDefault;", host, port),
		"AZURE_SQL_SERVER=" + host, "AZURE_SQL_PORT=" + port, "AZURE_SQL_DATABASE=shop", "AZURE_CLIENT_ID=" + robot.AppID, "AZURE_CLIENT_SECRET=" + robot.Secret}
	for name, argv := range map[string][]string{
		"go-mssqldb/ServicePrincipal":      goes("ActiveDirectoryServicePrincipal", "user id=${AZURE_CLIENT_ID}@${AZURE_TENANT_ID}", "password=${AZURE_CLIENT_SECRET}"),
		"go-mssqldb/Environment":           goes("ActiveDirectoryEnvironment"),
		"go-mssqldb/Default":               goes("ActiveDirectoryDefault"),
		"tedious/service-principal-secret": node("service-principal-secret"),
		"tedious/default in a shell":       node("default"),
		"tedious/token-credential":         node("token-credential", "secret"),
	} {
		t.Run(name, func(t *testing.T) {
			w.as(t)
			lines(t, w.withEnv(own, nil, argv...), "who robot shop")
		})
	}
}

// TestSQLRefusals: who may not log in is told so in SQL Server's words.
func TestSQLRefusals(t *testing.T) {
	w := newWorld(t)
	w.attachSQL("sql1")
	w.cli("connect", "web", "sql1", "--type", "sql", "--database", "shop", "--client", "go", "--access", "read")
	way := "ActiveDirectoryServicePrincipalAccessToken"
	for name, token := range map[string]string{
		"somebody without a login": w.token(sqlAudience, "other"),
		"another audience":         w.token(vaultScope, "web"),
		"no token":                 "not.a.token",
	} {
		t.Run(name, func(t *testing.T) {
			w.as(t)
			r := w.run("web", nil, ecosystems[0].program("sql", way, "password="+token)...)
			if r.code != 0 || !strings.HasPrefix(r.stdout, "refused 18456 ") || !strings.Contains(r.stdout, "Login failed for user '<token-identified principal>'.") {
				t.Errorf("exit status %d, printed %q\n%s", r.code, r.stdout, r.stderr)
			}
			if strings.Contains(r.stdout+r.stderr, token) {
				t.Error("the refusal repeats the token")
			}
		})
	}
	t.Run("FreeTDS with a SQL login", func(t *testing.T) {
		w.as(t)
		host, port, _ := strings.Cut(w.env.Gateways["tds"], ":")
		conf := filepath.Join(newDir(t), "freetds.conf")
		text := fmt.Sprintf("[door]\nhost = %s\nport = %s\ntds version = 7.4\nencryption = require\n", host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := execute(t, append(clean(t), "FREETDSCONF="+conf), "tsql", "-S", "door", "-U", "sa", "-P", "only a test's 1", "-D", "shop")
		if out := r.stdout + r.stderr; !strings.Contains(out, "18456") || !strings.Contains(out, "Login failed for user 'sa'.") {
			t.Errorf("tsql says %q", out)
		}
	})
}

// TestSQLExamples: examples/sql-go and examples/sql-node, as they are.
func TestSQLExamples(t *testing.T) {
	w := newWorld(t)
	w.attachSQL("sql1")
	w.make("identity", "shared")
	for _, e := range []struct {
		name, client string
		argv         []string
	}{{"go", "go", []string{os.Getenv(sqlGoVar)}}, {"node", "nodejs", []string{"node", "../examples/sql-node/app.js"}}} {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			app := "shop" + e.name
			w.make("app", app)
			w.cli("connect", app, "sql1", "--type", "sql", "--database", "shop", "--client", e.client, "--access", "read")
			lines(t, w.run(app, nil, e.argv...), fmt.Sprintf("SQL Server: connected to shop as %s with a token", app))
		})
	}
}
