package conformance

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/store/storetest"
)

const (
	vaultScope = "https://vault.azure.net"
	armScope   = "https://management.azure.com/"
	pgAudience = "https://ossrdbms-aad.database.windows.net"

	secretsOfficer = "Key Vault Secrets Officer"
	secretsUser    = "Key Vault Secrets User"
)

// world is a plane with what most cases need.
type world struct {
	*plane
	vault resource // kv1, with the secret "plain"
	web   resource // may do everything with kv1's secrets
	other resource // may do nothing
}

const plainValue = "what web may read"

func newWorld(t testing.TB, args ...string) *world {
	t.Helper()
	w := &world{plane: start(t, args...)}
	w.vault = w.make("vault", "kv1")
	w.web = w.make("app", "web")
	w.other = w.make("app", "other")
	w.assign(secretsOfficer, "web", w.vault.ID)
	w.cli("secret", "set", "kv1", "plain", plainValue)
	return w
}

// database is a real database with a table, known to the plane as a server.
type database struct {
	name, url string // url: of its owner
}

// connection is a name for a connection to this database. Roles are the whole
// server's, which tests share, so the name must be the database's own.
func (d database) connection() string { return "c_" + d.name }

// role is the role that the connection makes.
func (d database) role() string { return "aad_" + d.connection() }

// attach makes a database with the table "things" and attaches it.
func (p *plane) attach(server string) database {
	p.t.Helper()
	d := database{url: storetest.Database(p.t)}
	u, err := url.Parse(d.url)
	if err != nil {
		p.t.Fatal(err)
	}
	d.name = strings.TrimPrefix(u.Path, "/")
	d.exec(p.t, "create table things (a int)")
	p.cli("attach", server, d.url)
	return d
}

// exec runs a statement as the database's owner, past the plane.
func (d database) exec(t testing.TB, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// arm is a client of the plane's management API.
func (p *plane) arm() *client.Client {
	p.t.Helper()
	c, err := client.Open(client.Options{Data: p.dir, Getenv: func(string) string { return "" }})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// vaultURL is the vault's address under the plane's own name.
func (p *plane) vaultURL(name string) string {
	return "https://" + name + ".vault." + p.env.Domain + ":" + p.port()
}

// token is a token of an app's identity; without an app, the administrator's.
func (p *plane) token(resource, app string) string {
	p.t.Helper()
	args := []string{"token", resource}
	if app != "" {
		args = append(args, "--app", app)
	}
	return p.cli(args...)
}

// record is one line of the audit log.
type record struct {
	Seq        int64     `json:"seq"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	Who        string    `json:"who"`
	Action     string    `json:"action"`
	Where      string    `json:"where"`
	Outcome    string    `json:"outcome"`
	Reason     string    `json:"reason"`
	Assignment string    `json:"assignment"`
}

// audit reads the log.
func (p *plane) audit() []record {
	p.t.Helper()
	var all []record
	p.json(&all, "audit")
	return all
}

// lines compares what a client printed with what is expected of all clients.
func lines(t testing.TB, r result, want string) {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got, wanted := strings.TrimSpace(r.stdout), strings.TrimSpace(want)
	if got != wanted {
		t.Errorf("the client printed\n%s\nwant\n%s\nstderr:\n%s", got, wanted, r.stderr)
	}
}
