package connector

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

func TestParseAAD(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"select * from pgaadauth_create_principal_with_oid('aad_c', 'oid', 'service', false, false);": {"pgaadauth_create_principal_with_oid", "aad_c", "oid", "service", "false", "false"},
		" SELECT\n*\tFROM Pg_Catalog . PGAADAUTH_x ( 'it''s' ,TRUE ) ; ":                              {"pgaadauth_x", "it's", "true"},
		"select pgaadauth_list_principals(false)":                                                     {"pgaadauth_list_principals", "false"},
		"select pgaadauth_sync()":                                                                     {"pgaadauth_sync"},
	} {
		got, ok := parseAAD(sql)
		if !ok || cmp.Diff(append([]string{got.function}, got.args...), want) != "" {
			t.Errorf("%s: %v %v", sql, got, ok)
		}
	}
	for _, sql := range []string{"", "select 1", "select * from pgaadauth_x('a'); drop table t", "select * from pgaadauth_x('a'", `select * from pgaadauth_x('\')`,
		"select * from pgaadauth_x(a)", "select * from public.pgaadauth_x('a')", "select pgaadauth_x('a') from t", "select * from pgaadauth_x('a','b','c','d','e','f')",
		`select * from "pgaadauth_x"('a')`, "select pgaadauth_x('a',)", "selectpgaadauth_x()", "insert into t select pgaadauth_x()", "select * from pgaadauth_x('a') --", "select * from pgaadauth_x(e'a')",
		"select * from pgaadauth_x($1)", "select * from pgaadauth_x('a' 'b')", "select *from other()", "select pgaadauth_x('a\x00')"} {
		if got, ok := parseAAD(sql); ok {
			t.Errorf("%s: read as %v", sql, got)
		}
	}
}

// FuzzParseAAD: what is read is written back and read the same.
func FuzzParseAAD(f *testing.F) {
	f.Add("select * from pgaadauth_x('a''b', true, 'c');")
	f.Add("select pgaadauth_x(")
	f.Fuzz(func(t *testing.T, sql string) {
		call, ok := parseAAD(sql)
		if !ok {
			return
		}
		var args []string
		for _, a := range call.args {
			args = append(args, "'"+strings.ReplaceAll(a, "'", "''")+"'")
		}
		again, ok := parseAAD("select * from " + call.function + "(" + strings.Join(args, ",") + ")")
		if !ok || again.function != call.function || strings.Join(again.args, "\x00") != strings.Join(call.args, "\x00") {
			t.Errorf("%q: %v, then %v", sql, call, again)
		}
	})
}

// TestStatementsOfAz: what az 2.45 sends to the database when it makes a
// connection does what it means, and is the connection's from then on.
func TestStatementsOfAz(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann, me := r.user(r.conn("ann")), r.upn("ann")
		r.must(boss, "PUT", servers+"pg1/administrators/"+ann, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, me))
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		app := r.identity("web")
		role := "aad_" + r.conn("c")
		f := r.front()
		conn := f.enter(ann, me)
		create := fmt.Sprintf(`select * from pgaadauth_create_principal_with_oid('%s', '%s', 'service', false, false);`, role, app.ObjectID)
		simple := func(sql string) (string, error) {
			rows, err := conn.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				return "", err
			}
			all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) { v, err := row.Values(); return fmt.Sprint(v...), err })
			return strings.Join(all, "\n"), err
		}
		if got, err := simple(create); err != nil || got != `Created role for "`+role+`"` {
			t.Fatalf("%q %v", got, err)
		}
		var pe *pgconn.PgError
		if _, err := simple(create); !errors.As(err, &pe) || pe.Code != "42710" {
			t.Errorf("twice: %v", err)
		}
		for _, sql := range []string{`GRANT ALL PRIVILEGES ON DATABASE "` + r.f.db + `" TO ` + ident(role), `GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO ` + ident(role)} {
			if _, err := simple(sql); errors.As(err, &pe) && pe.Code == "42704" {
				t.Errorf("%s: the role is not there", sql)
			}
		}
		if got, err := simple(`select * from pgaadauth_list_principals(false)`); err != nil || !strings.Contains(got, role) || !strings.Contains(got, app.ObjectID) {
			t.Errorf("%q %v", got, err)
		}
		if _, err := r.enter(app, role); !az.Is(err, az.Forbidden) {
			t.Errorf("a statement gave the right to log in: %v", err)
		}
		link := sites + "web" + linkers + r.conn("c")
		r.must(boss, "PUT", link, r.linkBody("python", Write, fmt.Sprintf(`,"username":%q`, role)))
		tries(t, r.mustEnter(app, role), map[string]bool{`insert into todo (what) values ('x')`: true})
		r.must(boss, "DELETE", link, "")
		if r.roleExists(role) {
			t.Error("the role outlived the connection that az made it for")
		}
		if got, err := simple(create); err != nil || got == "" {
			t.Error(err)
		}
		if got, err := simple(`select pgaadauth_drop_principal('` + role + `')`); err != nil || got != `Dropped role "`+role+`"` || r.roleExists(role) {
			t.Errorf("%q %v", got, err)
		}
		for sql, code := range map[string]string{
			`select * from pgaadauth_create_principal_with_oid('x', '` + az.NewGUID() + `', 'service', false, false)`:                 "22023",
			`select * from pgaadauth_create_principal_with_oid('x', '` + app.ObjectID + `', 'user', false, false)`:                    "22023",
			`select * from pgaadauth_create_principal_with_oid('pg_x', '` + app.ObjectID + `', 'service', false, false)`:              "22023",
			`select * from pgaadauth_create_principal_with_oid('` + r.f.Owner + `', '` + app.ObjectID + `', 'service', false, false)`: "42710",
			`select * from pgaadauth_create_principal_with_oid('x', '` + app.ObjectID + `', 'service', true, false)`:                  "0A000",
			`select * from pgaadauth_drop_principal('` + me + `')`:                                                                    "42704",
			`select pgaadauth_x('a')`:     "0A000",
			`select pgaadauth_x('a', 'b"`: "42601",
		} {
			if _, err := simple(sql); !errors.As(err, &pe) || pe.Code != code {
				t.Errorf("%s: %v, want %s", sql, err, code)
			}
		}
		if n := len(r.records(actionWritePrincipal.Name, guard.Allowed)); n == 0 {
			t.Error("nothing was recorded")
		}
	})
}

// TestStatementsOfOthers: nobody but an administrator is listened to.
func TestStatementsOfOthers(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user(r.conn("ann"))
		r.mapTo(r.conn("ann"), ann, Owner)
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		conn := r.front().enter(ann, r.conn("ann"))
		var pe *pgconn.PgError
		if _, err := conn.Exec(t.Context(), `select * from pgaadauth_list_principals(false)`, pgx.QueryExecModeSimpleProtocol); !errors.As(err, &pe) || pe.Code != "42883" {
			t.Errorf("want the server's own word for a function that is not there: %v", err)
		}
		at := Backend{Server: az.MustParseID(servers + "pg1"), Database: r.f.db, User: r.conn("ann")}
		if instead, ok := r.Statement(t.Context(), as(ann), at, `select pgaadauth_list_principals(false)`); !ok || !strings.Contains(instead, "ERRCODE = '42501'") {
			t.Errorf("who is no administrator gets %q", instead)
		}
	})
}
