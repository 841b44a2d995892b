package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// backendTag names the real server of a flexible server that is created by a
// client with no words of Hawser's, such as az: an address
// (postgres://host:port/database?sslmode=…) or the name of an attached server.
// The owner's credential comes as administratorLogin and its password.
const backendTag = "hawser-backend"

// place finds out where the real server is: what the body says, else what the
// tag says, else where it is already, else the plane runs one itself, else
// nowhere: then the resource is a description only.
func (c *Connector) place(ctx context.Context, call *arm.Call, r, old *arm.Resource[serverProperties]) (err error) {
	p, said := &r.Properties, placement{given: r.Properties.Hawser, tags: r.Tags, fresh: old == nil}
	if old != nil {
		said.was, said.oldTags = old.Properties.Hawser, old.Tags
	}
	if p.Hawser, err = c.placeOf(ctx, call, PostgreSQL.family(), said); err != nil {
		return err
	}
	if p.Hawser == nil && old == nil && c.locals.why == "" {
		p.Hawser = &realServer{Local: c.locals.newPlace()}
	}
	if said.was != nil && said.was.Local != nil && (p.Hawser == nil || p.Hawser.Local == nil) {
		return az.Errorf(az.Invalid, "ServerIsLocal", "The plane runs this server itself, with its data: another server cannot take its place. Create a new one.")
	}
	return nil
}

// placement is what is said of the real server behind a resource.
type placement struct {
	given, was    *realServer // by the body; by the resource as it is
	tags, oldTags map[string]string
	fresh         bool // there was no resource
}

// placeOf finds out where a real server of any kind is; nil for nowhere. What
// it returns may be changed.
func (c *Connector) placeOf(ctx context.Context, call *arm.Call, f *family, said placement) (*realServer, error) {
	tag, was := tagOf(said.tags), said.was
	if g := said.given; g != nil && (g.Host != "" || g.URL != "") { // else what a reply said, sent back
		h := *g
		h.Local = nil
		if was == nil || h != *was {
			return &h, nil
		}
	}
	if tag != "" && (said.fresh || tag != tagOf(said.oldTags)) {
		return c.tagged(ctx, call, f, tag)
	}
	if was == nil {
		return nil, nil
	}
	h := *was
	return &h, nil
}

func tagOf(tags map[string]string) string {
	for k, v := range tags {
		if strings.EqualFold(k, backendTag) {
			return v
		}
	}
	return ""
}

// tagged reads the tag.
func (c *Connector) tagged(ctx context.Context, call *arm.Call, f *family, tag string) (*realServer, error) {
	if strings.Contains(tag, "://") {
		h := &realServer{URL: tag}
		login, password, err := h.takeURL(f)
		if err == nil && (password != "" || login != "") {
			err = az.Errorf(az.Invalid, "InvalidServerURL", "Whoever reads the server reads its tags: leave login and password out of the tag %s, and give them as administratorLogin and administratorLoginPassword.", backendTag)
		}
		return h, err
	}
	rows, err := c.cfg.Store.Resources(ctx, store.ResourceQuery{Type: string(f.kind)})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if !strings.EqualFold(row.ID.Name(), tag) {
			continue
		}
		if err := call.Linked(ctx, f.readServer(), row.ID); err != nil {
			return nil, err
		}
		var b struct {
			Properties struct {
				Hawser *realServer `json:"hawser"`
			} `json:"properties"`
		}
		if err := json.Unmarshal(row.Body, &b); err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(err)
		}
		if h := b.Properties.Hawser; h != nil && h.Local == nil {
			return h, nil
		}
		return nil, az.Errorf(az.Invalid, "InvalidBackend", "The server %q cannot stand behind another one: it is the plane's own, or has no real server itself.", tag)
	}
	return nil, az.Errorf(az.Invalid, "InvalidBackend", "The tag %s must hold %s://host:port/database?sslmode=…, or the name of an attached server.", backendTag, f.schemes[0])
}

// checkDescription is checkServer for one that nothing stands behind.
func checkDescription(p *serverProperties) error {
	p.AdministratorLoginPassword = "" // there is nobody to tell it to
	p.Version = orText(p.Version, "16")
	if len(p.Version) > 10 {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "version must be a major version such as 16.")
	}
	return nil
}

// checkLocal is checkServer for one that the plane runs itself. What it does
// outside of the store is taken back by the sweep if the resource never comes.
func (c *Connector) checkLocal(ctx context.Context, r, old *arm.Resource[serverProperties]) error {
	p := &r.Properties
	login, password := p.AdministratorLogin, p.AdministratorLoginPassword
	p.AdministratorLoginPassword = ""
	if old != nil {
		if login != old.Properties.AdministratorLogin {
			return az.Errorf(az.Invalid, "InvalidParameterValue", "The administrator login of a server cannot be changed.")
		}
		if password == "" {
			return nil
		}
		return c.withServer(ctx, r, func(conn *pgx.Conn) error { return setLogin(ctx, conn, login, az.NewSecret(password)) })
	}
	if login != "" {
		if err := checkRole(login); err != nil {
			return err
		}
		if login == localOwner {
			return az.Errorf(az.Invalid, "InvalidName", "The login %q is the plane's own; choose another.", login)
		}
		if password == "" {
			return az.Errorf(az.Invalid, "PasswordNeeded", "The administrator's password is missing: give administratorLoginPassword.")
		}
	}
	r.Secrets = map[string]az.Secret{passwordSecret: newPassword()}
	if err := c.locals.create(ctx, r.ID.Name(), p.Hawser.Local, r.Secrets[passwordSecret]); err != nil {
		return err
	}
	return c.withServer(ctx, r, func(conn *pgx.Conn) error {
		var number int
		err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&number)
		if err == nil {
			p.Version = fmt.Sprint(number / 10000)
			_, err = conn.Exec(ctx, "CREATE ROLE "+adminGroup+" NOLOGIN")
		}
		if err == nil { // so that administrators may work in its public schema
			_, err = conn.Exec(ctx, "ALTER DATABASE postgres OWNER TO "+adminGroup)
		}
		if err != nil {
			return sqlFault("prepare the server", err)
		}
		if login == "" {
			return nil
		}
		return setLogin(ctx, conn, login, az.NewSecret(password))
	})
}

// setLogin makes the administrator's login of a server of the plane's own, or
// gives it a password. It is no superuser, as Azure's is none.
func setLogin(ctx context.Context, conn *pgx.Conn, login string, password az.Secret) error {
	verifier, err := scramVerifier(password)
	if err != nil {
		return err
	}
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, `select exists (select 1 from pg_roles where rolname = $1)`, login).Scan(&there); err != nil {
			return sqlFault("look for the administrator's login", err)
		}
		if there {
			return run(ctx, tx, "set the administrator's password", passwordStatements(login, verifier))
		}
		return run(ctx, tx, "make the administrator's login", []string{
			fmt.Sprintf("CREATE ROLE %s LOGIN CREATEDB PASSWORD '%s'", ident(login), verifier),
			fmt.Sprintf("GRANT %s TO %s", adminGroup, ident(login)),
		})
	})
}

// withServer runs fn with a connection to a server of the plane's own, whose
// resource may not be there yet.
func (c *Connector) withServer(ctx context.Context, r *arm.Resource[serverProperties], fn func(*pgx.Conn) error) error {
	srv, err := c.real(ctx, r)
	if err != nil {
		return err
	}
	conn, err := srv.connect(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return fn(conn)
}

// real is the real server of a resource, awake if it is the plane's own.
func (c *Connector) real(ctx context.Context, r *arm.Resource[serverProperties]) (*backend, error) {
	h := r.Properties.Hawser
	switch {
	case h == nil:
		return nil, c.noBackend(PostgreSQL.family(), r.ID.Name())
	case h.Local == nil:
		return backendOf(r), nil
	}
	socket, err := c.locals.wake(ctx, r.ID.Name(), h.Local)
	if err != nil {
		return nil, err
	}
	return &backend{Host: socket, Port: localPort, SSLMode: sslDisable, Owner: localOwner, Password: r.Secrets[passwordSecret], Database: "postgres", local: true}, nil
}

// localPort is the number in the name of a local server's socket.
const localPort = 5432

func (c *Connector) noBackend(f *family, name string) error {
	why := ""
	if f.kind == PostgreSQL && c.locals.why != "" {
		why = " The plane runs none itself: " + c.locals.why + "."
	}
	return az.Errorf(az.Invalid, "ServerHasNoBackend", "No real %s server stands behind '%s', which is a description only: name one with hawser attach, or with the tag %s.%s", f.word, name, backendTag, why)
}

// reach completes what the gateway is told of a server: one of the plane's own
// is started when somebody logs in.
func (c *Connector) reach(ctx context.Context, srv *served) (addr string, err error) {
	if srv.local == nil {
		return srv.addr, nil
	}
	socket, err := c.locals.wake(ctx, srv.id.Name(), srv.local)
	if err != nil {
		return "", err
	}
	return (&backend{Host: socket, Port: localPort}).addr(), nil
}

// sweepLocals brings what runs on this machine in line with what is in the
// store.
func (c *Connector) sweepLocals(ctx context.Context, now time.Time) error {
	all, err := c.servers.LoadAll(ctx)
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	for _, r := range all {
		if h := r.Properties.Hawser; h != nil && h.Local != nil && h.Local.Plane == c.locals.cfg.Plane {
			mine[h.Local.Instance] = true
		}
	}
	c.locals.sweep(now, mine)
	return nil
}

// Close stops the servers that the plane runs itself.
func (c *Connector) Close() { c.locals.close() }
