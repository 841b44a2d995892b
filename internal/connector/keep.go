package connector

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

// keeper is the role that what another role owned goes to. It cannot log in
// and may do nothing: a function that runs with its owner's rights, a view or
// the expression of an index must not find the administrator login's, who may
// be a superuser, in the place of its maker's. Each role has a keeper of its
// own, for the same reason. The administrator login is a member of it.
func (r roleSpec) keeper() roleSpec {
	id := az.NamedGUID("hawser/keeper", r.Marker)
	return roleSpec{Name: "hawser_kept_" + id[:13], Marker: "keeps " + id}
}

// ownsSQL asks whether a role owns something that is in this database or in
// none.
const ownsSQL = `select exists (select 1 from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'o'
	and refobjid = (select oid from pg_roles where rolname = $1)
	and dbid in (0, (select oid from pg_database where datname = current_database())))`

// stripTx takes everything from a silenced role in one database: what it owns
// goes to its keeper, then every privilege goes. The role must have no session
// and be able to get none, since DROP OWNED would drop what it created in
// between.
func stripTx(ctx context.Context, tx pgx.Tx, r roleSpec) error {
	var owns, super bool
	err := tx.QueryRow(ctx, ownsSQL, r.Name).Scan(&owns)
	if err == nil {
		err = tx.QueryRow(ctx, `select rolsuper from pg_roles where rolname = current_user`).Scan(&super)
	}
	if err != nil {
		return sqlFault("look for what the role owns", err)
	}
	var statements []string
	if owns {
		if statements, err = r.keepStatements(ctx, tx, super); err != nil {
			return err
		}
	}
	return run(ctx, tx, "take the role's privileges back", append(statements, fmt.Sprintf("DROP OWNED BY %s", ident(r.Name))))
}

// keepStatements gives what a role owns to its keeper. Who is no superuser may
// give away only to a role that could have made the objects itself, so the
// keeper is a member of the role meanwhile; DROP OWNED takes the grants back.
func (r roleSpec) keepStatements(ctx context.Context, tx pgx.Tx, super bool) ([]string, error) {
	k := r.keeper()
	exists, ours, err := findRole(ctx, tx, k.Name, k.comment())
	switch {
	case err != nil:
		return nil, err
	case exists && !ours:
		return nil, roleExists(k.Name)
	}
	var out []string
	if !exists {
		out = append(out, "CREATE ROLE "+ident(k.Name)+" NOLOGIN", fmt.Sprintf("COMMENT ON ROLE %s IS '%s'", ident(k.Name), k.comment()))
	}
	reassign := fmt.Sprintf("REASSIGN OWNED BY %s TO %s", ident(r.Name), ident(k.Name))
	if super {
		return append(out, reassign), nil
	}
	rows, err := tx.Query(ctx, `select nspname::text from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
		and pg_has_role(current_user, nspowner, 'USAGE') order by 1`)
	if err != nil {
		return nil, sqlFault("read the database's schemas", err)
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, sqlFault("read the database's schemas", err)
	}
	for _, s := range schemas {
		out = append(out, fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s", ident(s), ident(r.Name)))
	}
	return append(out,
		fmt.Sprintf("GRANT %s TO CURRENT_USER", ident(k.Name)),
		fmt.Sprintf("GRANT %s TO %s", ident(r.Name), ident(k.Name)),
		reassign,
		fmt.Sprintf("REVOKE %s FROM %s", ident(r.Name), ident(k.Name))), nil
}
