package connector

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

// The engine of PostgreSQL: roles.go has what it runs.

// has refuses a database that is not there.
func (b *backend) has(ctx context.Context, database string) error {
	conn, err := b.connect(ctx, database)
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

func (b *backend) realise(ctx context.Context, r roleSpec, on grant, lower bool) (made bool, err error) {
	conn, err := b.connect(ctx, on.Database)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if lower {
		if err := silence(ctx, conn, r.Name); err != nil {
			return false, err
		}
		if err := strip(ctx, conn, r); err != nil {
			return false, err
		}
	}
	// Each time, since a session may change its own role's password and an
	// administrator may have dropped the role: repeating a connection heals it.
	if made, err = ensureRole(ctx, conn, r); err != nil || on.Database == "" {
		return made, err
	}
	return made, grantAccess(ctx, conn, use{r.Name, on.Access}, on.Others)
}

func (b *backend) setPassword(ctx context.Context, r roleSpec) (made bool, err error) {
	return b.realise(ctx, r, grant{}, false)
}

func (b *backend) shrink(ctx context.Context, r roleSpec) (made bool, err error) {
	conn, err := b.connect(ctx, "")
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := silence(ctx, conn, r.Name); err != nil {
		return false, err
	}
	databases, err := databasesOf(ctx, conn, r.Name)
	if err != nil {
		return false, err
	}
	for _, d := range databases {
		if err := b.stripIn(ctx, d, r); err != nil {
			return false, err
		}
	}
	return ensureRole(ctx, conn, r)
}

func (b *backend) terminate(ctx context.Context, role string, session uint64) error {
	conn, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and usename = $2`, int32(session), role); err != nil {
		return sqlFault("end the session", err)
	}
	return nil
}

func (b *backend) probe(ctx context.Context, user string, password az.Secret, database string, _ Access) error {
	conn, err := b.loginAs(ctx, user, password, database)
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

// preview leaves the password's verifier out: it is made anew for each run.
func (b *backend) preview(ctx context.Context, r roleSpec, on grant) (sql, notes []string, err error) {
	conn, err := b.connect(ctx, on.Database)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	const verifier = "SCRAM-SHA-256$…"
	u := use{r.Name, on.Access}
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		sql = nil
		f, err := readFacts(ctx, tx, makers(on.Others))
		if err != nil {
			return err
		}
		exists, ours, err := findRole(ctx, tx, r.Name, r.comment())
		switch {
		case err != nil:
			return err
		case exists && !ours:
			return roleExists(r.Name)
		case !exists:
			sql = append(sql, r.createStatements(verifier, true, f.Super, true)...)
		}
		sql, notes = append(sql, f.grantStatements(u, on.Others)...), f.notes(u)
		return nil
	})
	return sql, notes, err
}

func (b *backend) where() (host string, port int, hidden bool) { return b.Host, b.Port, b.local }
