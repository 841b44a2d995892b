package arm

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Config is what an API is made of. Store, Guard, Sealer and Names are needed.
type Config struct {
	Store  *store.Store
	Guard  *guard.Guard
	Sealer *seal.Sealer
	Clock  az.Clock     // nil: the real one
	Log    *slog.Logger // nil: none
	Names  az.Names
	// PrincipalKind finds a directory object by its object id: a role can be
	// assigned only to somebody who exists. nil finds nobody.
	PrincipalKind func(ctx context.Context, oid string) (kind az.PrincipalKind, found bool, err error)
	// PrincipalThere looks again inside the transaction that assigns a role: a
	// principal that is being deleted must not keep one. nil believes PrincipalKind.
	PrincipalThere func(tx *store.Tx, oid string) (bool, error)
	// CallerStands reports whether a directory object may still act: it is there
	// and enabled. It is asked while something goes on long after its caller's
	// token was looked at. nil believes that everybody does.
	CallerStands func(ctx context.Context, oid string) (bool, error)
	// ExplainPolicy gives the decision where a resource goes by a list of its own
	// and not by roles; goes is false elsewhere. It is for "hawser why". nil knows
	// of none.
	ExplainPolicy func(ctx context.Context, oid string, groups []string, a guard.Action, scope az.ID) (entry string, goes bool, err error)
	// TenantName is shown to people who list tenants; "" means "Hawser".
	TenantName string
}

// API is the resource front door. Register and Handle are for start-up only;
// after that everything may be called concurrently.
type API struct {
	cfg    Config
	types  map[string]AnyType // folded name → type
	order  []AnyType          // as registered: a cascade goes backwards
	routes []*exactRoute
	groups *Type[groupProperties]
	assign *Type[assignmentProperties]
	roles  *roleDefinitions
	work   background

	deployments *Type[deploymentProperties]
}

// New makes the front door with the types this package owns.
func New(cfg Config) *API {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.CallerStands == nil {
		cfg.CallerStands = func(context.Context, string) (bool, error) { return true, nil }
	}
	if cfg.PrincipalKind == nil {
		cfg.PrincipalKind = func(context.Context, string) (az.PrincipalKind, bool, error) { return "", false, nil }
	}
	if cfg.PrincipalThere == nil {
		cfg.PrincipalThere = func(*store.Tx, string) (bool, error) { return true, nil }
	}
	if cfg.TenantName == "" {
		cfg.TenantName = "Hawser"
	}
	a := &API{cfg: cfg, types: map[string]AnyType{}}
	a.groups, a.roles, a.assign = a.groupType(), a.roleType(), a.assignmentType()
	a.deployments = a.deploymentType()
	a.Register(a.groups, a.roles, a.assign, a.deployments)
	a.ownRoutes()
	a.deploymentRoutes()
	return a
}

// Register adds types. A cascade deletes what was registered last first, so a
// type is registered after those it leans on. It panics on a name given twice,
// which is a mistake in the program.
func (a *API) Register(types ...AnyType) {
	for _, t := range types {
		key := strings.ToLower(t.info().name)
		if a.types[key] != nil {
			panic("arm: the type " + t.info().name + " is registered twice")
		}
		t.bind(a)
		a.types[key] = t
		a.order = append(a.order, t)
	}
}

// maxBody bounds a request's body. Source: Azure Resource Manager request
// limits (an ARM template or resource is at most 4 MB).
const maxBody = 4 << 20

// requestTime bounds a request: hooks may talk to a database server. It stays
// below the 60 s after which Azure's clients give up.
const requestTime = 55 * time.Second

// Surface is the routes of management.D. Its Verify and Served are set by
// whoever serves it.
func (a *API) Surface() *rest.Surface {
	return &rest.Surface{
		Name: "management",
		Form: rest.FormARM,
		Routes: []rest.Route{
			{Method: http.MethodGet, Path: "/metadata/endpoints", Handle: a.metadata,
				Access: rest.Nobody("clients learn from it where to sign in; it holds names only")},
			{Path: "/", Access: rest.Token(rest.ARM), MaxBody: maxBody, Timeout: requestTime, Handle: a.serve},
		},
		Challenge: a.challenge,
		Log:       a.cfg.Log,
		Clock:     a.cfg.Clock,
	}
}

// challenge is the WWW-Authenticate value of a 401, in ARM's words: the SDKs
// read the authority from it.
func (a *API) challenge(_ *http.Request, err *az.Error) string {
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, err.Message)
	return `Bearer authorization_uri="` + a.cfg.Names.AuthorityURL() + `", error="invalid_token", error_description="` + text + `"`
}

func (a *API) now() time.Time { return a.cfg.Clock() }

// Close waits until the long operations of this plane have ended; those that
// go on when ctx ends are cancelled and marked as failed.
func (a *API) Close(ctx context.Context) error { return a.work.close(ctx) }
