package connector

import (
	"fmt"
	"testing"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// TestSQLLoginsFindTheirRole: a client of SQL Server names no role, so the
// plane finds the principal's. No server is asked for that.
func TestSQLLoginsFindTheirRole(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		server := az.MustParseID(group + "/providers/Microsoft.Sql/servers/sq1")
		ann, bob, eve := r.user("ann"), r.user("bob"), r.user("eve")
		zebras, apes := r.group("zebras", ann, bob), r.group("apes", bob)
		put := func(role, oid string, kind az.PrincipalKind, databases ...string) {
			t.Helper()
			p := principalProperties{RoleName: role, PrincipalID: oid, PrincipalType: kind, Status: roleReady}
			for _, d := range databases {
				p.Uses = append(p.Uses, roleUse{By: server, Database: d, Access: Read})
			}
			id := principalID(server, role)
			r.write(func(tx *store.Tx) error {
				old, err := r.principals.Read(tx, id)
				row := &arm.Resource[principalProperties]{ID: id, Properties: p, Secrets: map[string]az.Secret{passwordSecret: newPassword()}}
				if old != nil {
					row.ETag = old.ETag
				}
				if err != nil {
					return err
				}
				return r.principals.Write(tx, row)
			})
		}
		r.write(func(tx *store.Tx) error {
			body := `{"properties":{"administratorLogin":"sa","hawser":{"host":"127.0.0.1","port":1433,"sslMode":"require"}}}`
			return tx.PutResource(store.Resource{ID: server, ETag: az.NewGUID(), Body: []byte(body)}, "")
		})
		put("of zebras", zebras, az.Group, "shop")
		put("Of apes", apes, az.Group, "bank")
		put("ann's", ann, az.User, "shop")
		r.grantRole(guard.RoleSQLLogin, zebras, server.String())
		r.grantRole(guard.RoleSQLLogin, apes, server.String())
		check := func(what, oid, database, want string) {
			t.Helper()
			b, err := r.Authorize(t.Context(), as(oid), Login{Kind: SQLServer, Server: "sq1", Database: database})
			if want == "" {
				if !az.Is(err, az.Forbidden) {
					t.Errorf("%s: %+v %v", what, b, err)
				}
				return
			}
			if err != nil || b.User != want || b.Password.IsZero() {
				t.Errorf("%s: %q %v; want %q", what, b.User, err, want)
			}
		}
		check("one's own before a group's", ann, "shop", "ann's")
		check("one's own, for another database", ann, "bank", "ann's")
		check("the group's that is for the database", bob, "shop", "of zebras")
		check("the group's that is for the other one", bob, "bank", "Of apes")
		check("no database: the first by name", bob, "", "Of apes")
		check("nobody's", eve, "shop", "")
		r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(apes, bob); return err })
		check("no ape any more", bob, "bank", "of zebras")
		put("Of apes", zebras, az.Group, "bank") // a change that the cache must see
		check("the role became another group's", bob, "bank", "Of apes")
		r.write(func(tx *store.Tx) error { _, err := tx.DeleteResource(principalID(server, "ann's")); return err })
		check("one's own is gone", ann, "shop", "of zebras")
		r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(zebras, ann); return err })
		check("and the group, too", ann, "shop", "")
		if n := len(r.records(guard.ActionSQLLogin, guard.Refused)); n != 2 {
			t.Errorf("%d refusals were recorded", n)
		}
		if _, err := r.Authorize(t.Context(), as(bob), Login{Kind: "Microsoft.Sql/other", Server: "sq1"}); err == nil {
			t.Error("a kind that there is not")
		}
		// What somebody else's client names makes no difference.
		b, err := r.Authorize(t.Context(), as(bob), Login{Kind: SQLServer, Server: "sq1", Database: "shop", User: "ann's"})
		if err != nil || b.User != "of zebras" {
			t.Errorf("a role that is named: %v", fmt.Sprint(b.User, err))
		}
	})
}
