package connector

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// facts is what a database holds and what its owner login may grant there.
// Statements are made from it alone, so that a dry run shows what a run does.
type facts struct {
	User     string // the owner login
	Super    bool
	Database string
	// GrantDatabase: the owner may grant on the database itself.
	GrantDatabase bool
	PublicConnect bool
	Schemas       []schemaFacts
	// Creators are roles whose future objects the owner can cover; Uncovered
	// are those who have objects but are beyond the owner's reach.
	Creators  []string
	Uncovered []string
	// OpenSchemas lets every role create tables: PostgreSQL before 15.
	OpenSchemas []string
}

// schemaFacts is one schema that is not the server's own.
type schemaFacts struct {
	Name      string
	Grantable bool
	Tables    objectFacts
	Sequences objectFacts
}

// objectFacts says which objects of a schema can be granted on: all of them
// with one statement, or only some, by name.
type objectFacts struct {
	All   bool
	Names []string // when not All
}

const databaseFactsSQL = `select current_user::text, r.rolsuper, current_database()::text,
	pg_has_role(current_user, d.datdba, 'USAGE'),
	exists (select 1 from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a where a.grantee = 0 and a.privilege_type = 'CONNECT')
	from pg_database d, pg_roles r where d.datname = current_database() and r.rolname = current_user`

const schemaFactsSQL = `select n.nspname::text, pg_has_role(current_user, n.nspowner, 'USAGE'),
	exists (select 1 from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a where a.grantee = 0 and a.privilege_type = 'CREATE')
	from pg_namespace n where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1`

const objectFactsSQL = `select n.nspname::text, c.relkind = 'S',
	bool_and(pg_has_role(current_user, c.relowner, 'USAGE')),
	coalesce(array_agg(c.relname::text order by c.relname) filter (where pg_has_role(current_user, c.relowner, 'USAGE')), '{}')
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
	group by 1, 2`

// creatorsSQL finds who makes objects here: the owners of the database, of its
// schemas and of what is in them, the owner login, and whom it is told of.
const creatorsSQL = `with c as (
	select datdba as o from pg_database where datname = current_database()
	union select nspowner from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
	union select c.relowner from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
	union select oid from pg_roles where rolname = current_user or rolname = any($1::text[]))
	select r.rolname::text, pg_has_role(current_user, r.oid, 'USAGE') from c join pg_roles r on r.oid = c.o
	where r.rolname !~ '^pg_' order by 1`

// readFacts looks at the database of a connection. makers are roles that may
// create objects although they own none yet.
func readFacts(ctx context.Context, q pgx.Tx, makers []string) (*facts, error) {
	f := &facts{}
	err := q.QueryRow(ctx, databaseFactsSQL).Scan(&f.User, &f.Super, &f.Database, &f.GrantDatabase, &f.PublicConnect)
	if err != nil {
		return nil, sqlFault("read the database's catalog", err)
	}
	if err := f.readSchemas(ctx, q); err != nil {
		return nil, sqlFault("read the database's schemas", err)
	}
	rows, err := q.Query(ctx, creatorsSQL, makers)
	if err == nil {
		var name string
		var covered bool
		_, err = pgx.ForEachRow(rows, []any{&name, &covered}, func() error {
			if covered {
				f.Creators = append(f.Creators, name)
			} else {
				f.Uncovered = append(f.Uncovered, name)
			}
			return nil
		})
	}
	if err != nil {
		return nil, sqlFault("read the database's roles", err)
	}
	return f, nil
}

func (f *facts) readSchemas(ctx context.Context, q pgx.Tx) error {
	rows, err := q.Query(ctx, schemaFactsSQL)
	if err != nil {
		return err
	}
	s := schemaFacts{Tables: objectFacts{All: true}, Sequences: objectFacts{All: true}}
	var open bool
	_, err = pgx.ForEachRow(rows, []any{&s.Name, &s.Grantable, &open}, func() error {
		f.Schemas = append(f.Schemas, s)
		if open {
			f.OpenSchemas = append(f.OpenSchemas, s.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rows, err = q.Query(ctx, objectFactsSQL); err != nil {
		return err
	}
	var name string
	var sequences, all bool
	var names []string
	_, err = pgx.ForEachRow(rows, []any{&name, &sequences, &all, &names}, func() error {
		i := slices.IndexFunc(f.Schemas, func(s schemaFacts) bool { return s.Name == name })
		if i < 0 || all {
			return nil
		}
		o := objectFacts{Names: slices.Clone(names)}
		if sequences {
			f.Schemas[i].Sequences = o
		} else {
			f.Schemas[i].Tables = o
		}
		return nil
	})
	return err
}
