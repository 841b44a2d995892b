package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/connector"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/easyauth"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/site"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/vault"
)

// parts are the packages that make up a plane, wired to one another.
type parts struct {
	guard     *guard.Guard
	directory *directory.Directory
	signin    *signin.SignIn
	authority *authority.Authority
	arm       *arm.API
	vaults    *vault.Vaults
	sites     *site.Sites
	front     *easyauth.Front
	connector *connector.Connector
}

// surfaces says which part answers as which host.
func (p *parts) surfaces() map[az.Surface]*rest.Surface {
	return map[az.Surface]*rest.Surface{
		az.SurfaceLogin:      p.authority.Surface(),
		az.SurfaceManagement: p.arm.Surface(),
		az.SurfaceGraph:      p.graph(),
		az.SurfaceVault:      p.vaults.Surface(),
	}
}

// graph is the directory's surface with the userinfo endpoint, which clients
// look for there.
func (p *parts) graph() *rest.Surface {
	s := p.directory.Surface()
	s.Routes = append(s.Routes, p.authority.UserInfo()...)
	return s
}

// auditKey is the purpose under which the sealer derives the audit chain's key.
const auditKey = "guard/audit"

// openParts makes every part and starts those that work on their own account.
func (s *Server) openParts(ctx, run context.Context) error {
	log, err := guard.OpenLog(ctx, guard.LogConfig{
		Dir: filepath.Join(s.cfg.Data, "audit"), Plane: s.id, Key: s.keys.sealer.Derive(auditKey, 32),
		Clock: s.cfg.Clock, Logger: s.cfg.Log, Checkpoint: s.auditCheckpoint(),
	})
	if err != nil {
		return err
	}
	s.onClose(func(context.Context) { _ = log.Close() })
	p := &s.parts
	p.guard = guard.New(s.store, log, s.cfg.Log)
	p.directory = directory.New(directory.Config{Store: s.store, Guard: p.guard, Sealer: s.keys.sealer, Names: s.names,
		Named: func(ctx context.Context, oids []string) (bool, error) { return s.parts.vaults.Named(ctx, oids) },
		Clock: s.cfg.Clock, Log: s.cfg.Log, Keep: s.tenant.AdminClientID, Unassign: arm.DeleteAssignmentsOf})
	roots, err := federationRoots(s.cfg.FederationCA)
	if err != nil {
		return err
	}
	people, err := s.signInConfig()
	if err != nil {
		return err
	}
	if p.signin, err = signin.New(people); err != nil {
		return err
	}
	p.authority = authority.New(authority.Config{Store: s.store, Directory: p.directory, Guard: p.guard, Sealer: s.keys.sealer, SignIn: p.signin,
		Names: s.names, Clock: s.cfg.Clock, Log: s.cfg.Log, Plane: s.id, IdentityLife: time.Duration(s.cfg.IdentityTokenLife), FederationRoots: roots,
		Password: s.cfg.SignIn.PasswordGrant})
	if err := p.authority.Start(ctx); err != nil {
		return fmt.Errorf("cannot start the token authority: %w", err)
	}
	s.onClose(func(context.Context) { p.authority.Close() })
	p.arm = arm.New(arm.Config{Store: s.store, Guard: p.guard, Sealer: s.keys.sealer, Clock: s.cfg.Clock, Log: s.cfg.Log,
		Names: s.names, PrincipalKind: s.principalKind, PrincipalThere: directory.PrincipalThere, CallerStands: s.callerStands,
		ExplainPolicy: func(ctx context.Context, oid string, groups []string, a guard.Action, scope az.ID) (string, bool, error) {
			return s.parts.vaults.Explain(ctx, oid, groups, a, scope)
		}})
	s.onClose(func(ctx context.Context) { _ = p.arm.Close(ctx) })
	p.vaults = vault.New(vault.Config{Store: s.store, Guard: p.guard, Sealer: s.keys.sealer, Clock: s.cfg.Clock, Log: s.cfg.Log, Names: s.names})
	p.sites = site.New(s.frontHooks(site.Config{Store: s.store, Guard: p.guard, Sealer: s.keys.sealer, Directory: p.directory,
		Vaults: p.vaults, Authority: p.authority, Names: s.names, Clock: s.cfg.Clock, Log: s.cfg.Log}))
	s.onClose(func(context.Context) { _ = p.sites.Close() })
	s.openFront()
	p.connector = connector.New(connector.Config{Store: s.store, Guard: p.guard, API: p.arm, Directory: p.directory, Sites: p.sites, Vaults: p.vaults,
		Names: s.names, Clock: s.cfg.Clock, Log: s.cfg.Log, Endpoint: s.gatewayEndpoint, Local: s.localServers()})
	s.onClose(func(context.Context) { p.connector.Close() })
	p.arm.Register(p.authority.Types()...)
	p.vaults.Register(p.arm)
	p.sites.Register(p.arm)
	p.connector.Register(p.arm)
	s.controlRoutes()
	s.work.Go(func() { p.vaults.Run(run) })
	s.work.Go(func() { p.connector.Run(run) })
	return nil
}

// localServers says where the plane may run database servers itself.
func (s *Server) localServers() connector.Local {
	if s.cfg.LocalServers == "off" {
		return connector.Local{Plane: s.id}
	}
	return connector.Local{Dir: filepath.Join(s.cfg.Data, "postgres"), Plane: s.id}
}

func (s *Server) auditCheckpoint() guard.Checkpoint {
	key := "audit/" + s.id
	return guard.Checkpoint{
		Save: func(ctx context.Context, head []byte) error {
			return s.store.Write(ctx, func(tx *store.Tx) error { return tx.PutMeta(key, head) })
		},
		Load: func(ctx context.Context) ([]byte, bool, error) { return s.store.Meta(ctx, key) },
	}
}

func (s *Server) principalKind(ctx context.Context, oid string) (az.PrincipalKind, bool, error) {
	o, ok, err := s.parts.directory.Get(ctx, oid)
	if err != nil || !ok || o.Kind == directory.Application { // rights are its service principal's
		return "", false, err
	}
	return o.Kind, true, nil
}

// callerStands asks the store and not a token: for what goes on after one was
// looked at.
func (s *Server) callerStands(ctx context.Context, oid string) (bool, error) {
	if err := s.store.Confirm(ctx); err != nil {
		return false, err
	}
	o, ok, err := s.parts.directory.Get(ctx, oid)
	return ok && err == nil && o.Enabled, err
}

// federationRoots adds a file's certificates to the system's; nil means those
// alone.
func federationRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the issuers' certificate authorities: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the file %s holds no certificate", file)
	}
	return pool, nil
}

// gatewayEndpoint says where an app reaches a server through the gateway: by
// name where names resolve, else at this machine's address, which the
// gateway's certificate names too.
func (s *Server) gatewayEndpoint(kind connector.Kind, server string) (host string, port int) {
	at := places[kind]
	host = s.names.Of(at.surface, server)
	ip, p, err := net.SplitHostPort(s.listens[at.door])
	if err != nil {
		return host, at.port
	}
	port, _ = strconv.Atoi(p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, host); err == nil {
		return host, port
	}
	if s.cfg.Hosts == "auto" && s.hostsOff == "" {
		return host, port
	}
	return ip, port
}

// places are where the servers of a kind are found: the names, the door, and
// the port that clients think of where no door is open.
var places = map[connector.Kind]struct {
	surface az.Surface
	door    string
	port    int
}{
	connector.PostgreSQL: {az.SurfacePostgres, "pg", 5432},
	connector.MySQL:      {az.SurfaceMySQL, "mysql", 3306},
	connector.SQLServer:  {az.SurfaceSQL, "tds", 1433},
	connector.Redis:      {az.SurfaceRedis, "redis", 6380},
}
