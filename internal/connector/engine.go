package connector

import (
	"context"
	"errors"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// engine is a real server under its owner's credential. There are four: the
// ARM type of the server decides which (backend is PostgreSQL's). What a role
// is for, who may take it, when its password changes and what is to be undone
// is the same for all of them, and stands in principal.go, sweep.go, roles.go
// and authorize.go.
//
// Every method may be repeated, and may be cut off at any point: whoever asked
// asks again.
type engine interface {
	// has refuses a database that is not there, or is not for connections.
	has(ctx context.Context, database string) error
	// realise makes the role there be as r says (login, password, marker, and an
	// administrator's rights if it is one) and gives it its access to one
	// database; none with on.Database "". With lower it had more, here or
	// elsewhere: its sessions are ended and everything it has is taken first.
	// After lower, or if the role was made, the caller has realise called for
	// the role's other databases, too.
	realise(ctx context.Context, r roleSpec, on grant, lower bool) (made bool, err error)
	// setPassword is realise without any access. Open sessions go on.
	setPassword(ctx context.Context, r roleSpec) (made bool, err error)
	// shrink ends the role's sessions, takes everything from it and lets it log
	// in again; the caller has realise called for what it still is to have.
	shrink(ctx context.Context, r roleSpec) (made bool, err error)
	// drop removes the role, if it is ours, and ends its sessions. It is no error
	// if it is gone.
	drop(ctx context.Context, r roleSpec) error
	// terminate ends one session of a role.
	terminate(ctx context.Context, role string, session uint64) error
	// probe logs in as somebody to a database, as the gateway or an app does, and
	// compares what the session may with access; "" compares nothing.
	probe(ctx context.Context, user string, password az.Secret, database string, access Access) error
	// preview lists what realise would run, without secrets, and what it does not
	// reach. It changes nothing.
	preview(ctx context.Context, r roleSpec, on grant) (statements, notes []string, err error)
	// where is the server's address, for connections with a login of its own.
	// hidden: it is reached through the gateway only.
	where() (host string, port int, hidden bool)
}

// overlapping is an engine whose setPassword leaves the old password good, so
// that no login fails between the server's change and the store's. settled ends
// that.
type overlapping interface {
	settled(ctx context.Context, r roleSpec) error
}

// grant is what a role is to have in one database. Others is who else uses the
// database: what the role itself may create there is to be open to them.
type grant struct {
	Database string // "": none
	Access   Access
	Others   []use
}

// engine reads a server with its owner's credential.
func (c *Connector) engine(ctx context.Context, server az.ID) (engine, error) {
	f := familyOf(server)
	if f == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The server '%s' was not found.", server.Name())
	}
	switch f.kind {
	case PostgreSQL:
		return asEngine(c.server(ctx, server))
	case SQLServer:
		return asEngine(c.sqlBackend(ctx, server))
	case MySQL:
		return asEngine(c.mysqlBackend(ctx, server))
	case Redis:
		return asEngine(c.redisEngine(ctx, server))
	}
	return nil, c.noBackend(f, server.Name())
}

// asEngine keeps a nil pointer from becoming an engine.
func asEngine[E engine](e E, err error) (engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

var errNotAPrincipal = errors.New("not the id of a role")

// principalTypes are the ARM types of roles, one below each type of server.
type principalTypes []*arm.Type[principalProperties]

func (c *Connector) principalTypesOf() (out principalTypes) {
	for _, f := range families {
		out = append(out, c.principalType(f))
	}
	return out
}

func (t principalTypes) any() (out []arm.AnyType) {
	for _, one := range t {
		out = append(out, one)
	}
	return out
}

// Load reads a role with its password; a missing one is nil.
func (t principalTypes) Load(ctx context.Context, id az.ID) (*arm.Resource[principalProperties], error) {
	for _, one := range t {
		if id.IsType(one.Name()) {
			return one.Load(ctx, id)
		}
	}
	return nil, nil
}

// Read is Load inside a transaction.
func (t principalTypes) Read(tx *store.Tx, id az.ID) (*arm.Resource[principalProperties], error) {
	for _, one := range t {
		if id.IsType(one.Name()) {
			return one.Read(tx, id)
		}
	}
	return nil, nil
}

// Write writes a role.
func (t principalTypes) Write(tx *store.Tx, r *arm.Resource[principalProperties]) error {
	for _, one := range t {
		if r.ID.IsType(one.Name()) {
			return one.Write(tx, r)
		}
	}
	return az.Errorf(az.Internal, "", "").Because(errNotAPrincipal)
}
