package connector

import (
	"context"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Azure's servers have functions with which an administrator maps a principal
// to a role from inside the database, and az calls one when it makes a
// connection (wire/service-connector.md §4). Here they are no functions of the
// server: the gateway hands over such a call of an administrator's session, the
// plane does it, and the server runs a query that gives the answer. They make
// a mapping; the right to log in is still a role assignment's to give.

// aadCall is a call of one of them.
type aadCall struct {
	function string
	args     []string
}

// parseAAD reads SELECT [* FROM] function(constants)[;] and nothing else. What
// is written another way goes to the server, which knows no such function.
func parseAAD(sql string) (aadCall, bool) {
	w := words{rest: sql}
	if !w.word("select") {
		return aadCall{}, false
	}
	if w.sign('*') && !w.word("from") {
		return aadCall{}, false
	}
	name := w.name()
	if name == "pg_catalog" && w.sign('.') {
		name = w.name()
	}
	call := aadCall{function: name}
	if !strings.HasPrefix(name, "pgaadauth_") || !w.sign('(') {
		return aadCall{}, false
	}
	for !w.sign(')') {
		if len(call.args) > 0 && !w.sign(',') || len(call.args) == maxAADArgs {
			return aadCall{}, false
		}
		arg, ok := w.constant()
		if !ok {
			return aadCall{}, false
		}
		call.args = append(call.args, arg)
	}
	w.sign(';')
	w.space()
	return call, w.rest == ""
}

const maxAADArgs = 5

// words reads the little of SQL that is needed.
type words struct{ rest string }

func (w *words) space() { w.rest = strings.TrimLeft(w.rest, " \t\r\n") }

func (w *words) sign(c byte) bool {
	w.space()
	if w.rest == "" || w.rest[0] != c {
		return false
	}
	w.rest = w.rest[1:]
	return true
}

// name reads an identifier that is not quoted, in lower case.
func (w *words) name() string {
	w.space()
	n := 0
	for n < len(w.rest) && (w.rest[n] == '_' || w.rest[n]|0x20 >= 'a' && w.rest[n]|0x20 <= 'z' || n > 0 && w.rest[n] >= '0' && w.rest[n] <= '9') {
		n++
	}
	name := strings.ToLower(w.rest[:n])
	w.rest = w.rest[n:]
	return name
}

func (w *words) word(want string) bool {
	before := w.rest
	if w.name() == want {
		return true
	}
	w.rest = before
	return false
}

// constant reads a string, true or false. A backslash means one thing or
// another by a setting of the session, so there may be none.
func (w *words) constant() (string, bool) {
	if !w.sign('\'') {
		v := w.name()
		return v, v == "true" || v == "false"
	}
	var b strings.Builder
	for {
		part, rest, ok := strings.Cut(w.rest, "'")
		if !ok || strings.ContainsAny(part, "\\\x00") {
			return "", false
		}
		b.WriteString(part)
		w.rest = rest
		if !strings.HasPrefix(rest, "'") {
			return b.String(), true
		}
		b.WriteByte('\'')
		w.rest = rest[1:]
	}
}

// literal writes a string constant whose meaning no setting changes.
func literal(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Statement does what an administrator's session asks for by a statement, and
// returns the query that gives the server's client the answer; ok is false for
// one that is the server's alone.
func (c *Connector) Statement(ctx context.Context, who az.Principal, at Backend, sql string) (instead string, ok bool) {
	call, ok := parseAAD(sql)
	if !ok {
		return "", false
	}
	now, err := c.Recheck(ctx, who, Login{PostgreSQL, at.Server.Name(), at.Database, at.User})
	if err == nil && (!now.Admin || !now.Server.Equal(at.Server)) {
		err = az.Errorf(az.Forbidden, "", "permission denied for function %s", call.function)
	}
	if err == nil {
		instead, err = c.doAAD(ctx, who, at.Server, call)
	}
	if err != nil {
		code, message := wordsOf(err)
		c.cfg.Log.Info("connector: a statement of an administrator was refused", "function", call.function, "server", at.Server.Name(), "code", code, "error", err)
		return fmt.Sprintf("DO $hawser$BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = %s; END$hawser$", sqlState(err), literal(strings.ReplaceAll(message, "$hawser$", ""))), true
	}
	return instead, true
}

// sqlState is what an error is in PostgreSQL. Source: its documentation,
// appendix A.
func sqlState(err error) string {
	switch az.KindOf(err) {
	case az.Forbidden, az.Unauthorized:
		return "42501" // insufficient_privilege
	case az.Conflict:
		return "42710" // duplicate_object
	case az.NotFound:
		return "42704" // undefined_object
	case az.Invalid:
		return "22023" // invalid_parameter_value
	case az.Unsupported:
		return "0A000" // feature_not_supported
	}
	return "58000" // system_error
}

// doAAD does one call. Source of names and arguments: wire/databases.md §2.
func (c *Connector) doAAD(ctx context.Context, who az.Principal, server az.ID, call aadCall) (string, error) {
	a := call.args
	switch {
	case call.function == "pgaadauth_create_principal_with_oid" && len(a) == 5:
		return c.createAAD(ctx, who, server, a[0], a[1], a[2], a[3], a[4])
	case call.function == "pgaadauth_list_principals" && len(a) == 1:
		return c.listAAD(ctx, server, a[0] == "true")
	case call.function == "pgaadauth_drop_principal" && len(a) == 1:
		return c.dropAAD(ctx, who, server, a[0])
	}
	return "", az.Errorf(az.Unsupported, "", "%s with %d arguments is not served here; use pgaadauth_create_principal_with_oid(roleName, objectId, objectType, isAdmin, isMfa)", call.function, len(a))
}

// aadKinds are the words for kinds of principals.
var aadKinds = map[string]az.PrincipalKind{"user": az.User, "group": az.Group, "service": az.ServicePrincipal}

func (c *Connector) createAAD(ctx context.Context, who az.Principal, server az.ID, role, oid, kind, admin, mfa string) (string, error) {
	switch {
	case admin != "false":
		return "", az.Errorf(az.Unsupported, "", "administrators are made over the management API: az postgres flexible-server ad-admin create")
	case mfa != "false":
		return "", az.Errorf(az.Unsupported, "", "isMfa is not served: pass false")
	}
	if err := checkRole(role); err != nil {
		return "", err
	}
	oid, found, err := c.principal(ctx, oid)
	if err != nil {
		return "", err
	}
	if aadKinds[strings.ToLower(kind)] != found {
		return "", az.Errorf(az.Invalid, "InvalidPrincipalType", "the object %s is a %s; objectType must be user, group or service", oid, found)
	}
	id := principalID(server, role)
	old, err := c.principals.Load(ctx, id)
	if err != nil {
		return "", err
	}
	if old != nil && old.Properties.direct(id) {
		return "", az.Errorf(az.Conflict, "RoleExists", "role %s already exists", ident(role))
	}
	srv, err := c.server(ctx, server)
	if err != nil {
		return "", err
	}
	want := claim{Server: server, By: id, Role: role, OID: oid, Kind: found}
	var prev []roleUse
	err = c.perform(ctx, []step{
		{
			name: "make the role",
			do:   func(ctx context.Context) error { return c.makeRole(ctx, srv, want, &prev) },
			undo: func(ctx context.Context) error { return c.dropClaim(ctx, want, prev) },
		},
		{
			name: "write the mapping down",
			do: func(ctx context.Context) error {
				if err := c.recordAAD(ctx, who, id, fmt.Sprintf("role %q mapped to %s", role, oid)); err != nil {
					return err
				}
				return c.cfg.Store.Write(ctx, func(tx *store.Tx) error { return c.commitUse(tx, id, id, "") })
			},
		},
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("SELECT %s::text AS pgaadauth_create_principal_with_oid", literal("Created role for "+ident(role))), nil
}

func (c *Connector) recordAAD(ctx context.Context, who az.Principal, role az.ID, detail string) error {
	return c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: who, Action: actionWritePrincipal.Name, Where: role.String(),
		Outcome: guard.Allowed, Reason: "the caller is an administrator of the server", Detail: detail})
}

func (c *Connector) listAAD(ctx context.Context, server az.ID, adminsOnly bool) (string, error) {
	all, err := c.principalRows(ctx, server)
	if err != nil {
		return "", err
	}
	var rows []string
	for _, p := range all {
		if p.Properties.Status != roleReady || adminsOnly && !p.Properties.IsAdmin {
			continue
		}
		kind, admin := "", 0
		for word, k := range aadKinds {
			if k == p.Properties.PrincipalType {
				kind = word
			}
		}
		if p.Properties.IsAdmin {
			admin = 1
		}
		rows = append(rows, fmt.Sprintf("(%s::name, %s::text, %s::text, %s::text, 0, %d)", literal(p.Properties.RoleName), literal(kind),
			literal(p.Properties.PrincipalID), literal(c.cfg.Names.Tenant), admin))
	}
	where := ""
	if len(rows) == 0 {
		rows, where = []string{"(NULL::name, NULL::text, NULL::text, NULL::text, 0, 0)"}, " WHERE false"
	}
	return "SELECT * FROM (VALUES " + strings.Join(rows, ", ") + ") AS t(rolename, principaltype, objectid, tenantid, ismfa, isadmin)" + where, nil
}

// dropAAD takes back what createAAD made, and nothing of a connection's.
func (c *Connector) dropAAD(ctx context.Context, who az.Principal, server az.ID, role string) (string, error) {
	id := principalID(server, role)
	p, err := c.principals.Load(ctx, id)
	if err != nil {
		return "", err
	}
	made := false
	if p != nil {
		made = len(p.Properties.without(func(u roleUse) bool { return u.stated(id) })) < len(p.Properties.Uses)
	}
	if !made {
		return "", az.Errorf(az.NotFound, "RoleNotFound", "no principal named %s was made by pgaadauth_create_principal_with_oid", ident(role))
	}
	if err := c.recordAAD(ctx, who, id, fmt.Sprintf("role %q dropped", role)); err != nil {
		return "", err
	}
	err = c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		return c.releaseTx(tx, id, func(u roleUse) bool { return u.stated(id) })
	})
	if err != nil {
		return "", err
	}
	if err := c.finish(ctx, id); err != nil {
		return "", err
	}
	return fmt.Sprintf("SELECT %s::text AS pgaadauth_drop_principal", literal("Dropped role "+ident(role))), nil
}
