package connector

import (
	"context"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// postgres does a call or statement for a PostgreSQL server.
func (s *stating) postgres(ctx context.Context, sql string) (instead string, ok bool) {
	call, ok := parseAAD(sql)
	if !ok {
		return s.lists(ctx, sql)
	}
	if call.function == callDropRoles {
		if mine, err := s.anyMapped(ctx, call.args); err == nil && !mine {
			return "", false // the server's own roles
		}
	}
	err := s.allowed(ctx)
	if err == nil {
		instead, err = s.doAAD(ctx, call)
	}
	if err != nil {
		s.failed(call.function, err)
		_, message := wordsOf(err)
		return raise(sqlState(err), message), true
	}
	return instead, true
}

// lists puts the list of principals into a query that asks for it among other
// things.
func (s *stating) lists(ctx context.Context, sql string) (instead string, ok bool) {
	all, ok := parseLists(sql)
	if !ok {
		return "", false
	}
	var out strings.Builder
	last := 0
	for _, call := range all {
		admins, known := parseBool(call.admins)
		if !known {
			return "", false
		}
		err := s.allowed(ctx)
		var table string
		if err == nil {
			table, err = s.c.listAAD(ctx, s.at.Server, admins)
		}
		if err != nil {
			s.failed("pgaadauth_list_principals", err)
			_, message := wordsOf(err)
			return raise(sqlState(err), message), true
		}
		out.WriteString(sql[last:call.at] + "(" + table + ")")
		if last = call.end; call.bare {
			out.WriteString(" AS pgaadauth_list_principals")
		}
	}
	return out.String() + sql[last:], true
}

// sqlState is what an error is in PostgreSQL. Source: its documentation,
// appendix A.
func sqlState(err error) string {
	code, _ := wordsOf(err)
	switch kind := az.KindOf(err); {
	case code == "RoleInUse":
		return "2BP01" // dependent_objects_still_exist
	case kind == az.Forbidden, kind == az.Unauthorized:
		return "42501" // insufficient_privilege
	case kind == az.Conflict:
		return "42710" // duplicate_object
	case kind == az.NotFound:
		return "42704" // undefined_object
	case kind == az.Invalid:
		return "22023" // invalid_parameter_value
	case kind == az.Unsupported:
		return "0A000" // feature_not_supported
	}
	return "58000" // system_error
}

// postgresDone is a statement that succeeds and does nothing.
const postgresDone = "DO $hawser$BEGIN END$hawser$"

// doAAD does one call. Source of names and arguments: wire/databases.md §2.
func (s *stating) doAAD(ctx context.Context, call aadCall) (string, error) {
	switch call.function {
	case callDropRoles:
		return s.dropRoles(ctx, call.args)
	case callLabel:
		return s.label(ctx, call.args)
	}
	f, known := aadFunctions[call.function]
	if !known || len(call.args) != len(f.params) {
		return "", az.Errorf(az.Unsupported, "", "%s with %d arguments is not served here; use pgaadauth_create_principal_with_oid(roleName, objectId, objectType, isAdmin, isMfa)", call.function, len(call.args))
	}
	flags := make([]bool, f.bools)
	for i := range flags {
		n := len(f.params) - f.bools + i
		v, ok := parseBool(call.args[n])
		if !ok {
			return "", az.Errorf(az.Invalid, "InvalidArgument", "%s: the argument %s must be true or false", call.function, f.params[n])
		}
		flags[i] = v
	}
	a := call.args
	switch call.function {
	case "pgaadauth_list_principals":
		return s.c.listAAD(ctx, s.at.Server, flags[0])
	case "pgaadauth_drop_principal":
		return s.dropAAD(ctx, a[0])
	case "pgaadauth_create_principal":
		oid, kind, err := s.c.named(ctx, a[0])
		if err != nil {
			return "", err
		}
		m := mapping{role: a[0], oid: oid, kind: kind, admin: flags[0], mfa: flags[1]}
		return said(call.function, "Created role for "+ident(a[0])), s.create(ctx, m)
	}
	m, err := s.mappingOf(ctx, a[0], a[1], a[2])
	if err != nil {
		return "", err
	}
	m.admin, m.mfa = flags[0], flags[1]
	if call.function == "pgaadauth_update_principal_with_oid" {
		return said(call.function, "Updated role for "+ident(a[0])), s.remap(ctx, m)
	}
	return said(call.function, "Created role for "+ident(a[0])), s.create(ctx, m)
}

// said is a query whose answer is one text.
func said(column, text string) string {
	return fmt.Sprintf("SELECT %s::text AS %s", literal(text), column)
}

// aadKinds are the words for kinds of principals.
var aadKinds = map[string]az.PrincipalKind{"user": az.User, "group": az.Group, "service": az.ServicePrincipal}

// mappingOf finds a principal by its object id, of which the caller must know
// what it is.
func (s *stating) mappingOf(ctx context.Context, role, oid, kind string) (mapping, error) {
	id, found, err := s.c.principal(ctx, oid)
	if az.Is(err, az.Invalid) {
		err = az.Errorf(az.Invalid, nameUnknown, "Could not validate AAD user %s because its name is not found in the tenant.", oid)
	}
	if err == nil && aadKinds[strings.ToLower(kind)] != found {
		err = az.Errorf(az.Invalid, "InvalidPrincipalType", "the object %s is a %s; objectType must be user, group or service", id, found)
	}
	return mapping{role: role, oid: id, kind: found}, err
}

func (c *Connector) listAAD(ctx context.Context, server az.ID, adminsOnly bool) (string, error) {
	all, err := c.principalRows(ctx, server)
	if err != nil {
		return "", err
	}
	bit := map[bool]int{true: 1}
	var rows []string
	for _, p := range all {
		if p.Properties.Status != roleReady || adminsOnly && !p.Properties.IsAdmin {
			continue
		}
		kind := ""
		for word, k := range aadKinds {
			if k == p.Properties.PrincipalType {
				kind = word
			}
		}
		rows = append(rows, fmt.Sprintf("(%s::name, %s::text, %s::text, %s::text, %d, %d)", literal(p.Properties.RoleName), literal(kind),
			literal(p.Properties.PrincipalID), literal(c.cfg.Names.Tenant), bit[p.Properties.MFA], bit[p.Properties.IsAdmin]))
	}
	where := ""
	if len(rows) == 0 {
		rows, where = []string{"(NULL::name, NULL::text, NULL::text, NULL::text, 0, 0)"}, " WHERE false"
	}
	return "SELECT * FROM (VALUES " + strings.Join(rows, ", ") + ") AS t(rolename, principaltype, objectid, tenantid, ismfa, isadmin)" + where, nil
}

// dropAAD drops a role by a call.
func (s *stating) dropAAD(ctx context.Context, role string) (string, error) {
	p, err := s.stated(ctx, role)
	if err != nil {
		return "", err
	}
	if p == nil {
		return "", az.Errorf(az.NotFound, "RoleNotFound", "no principal named %s was made by pgaadauth_create_principal", ident(role))
	}
	return said("pgaadauth_drop_principal", "Dropped role "+ident(role)), s.drop(ctx, role)
}

// anyMapped reports whether the plane knows one of the roles.
func (s *stating) anyMapped(ctx context.Context, roles []string) (bool, error) {
	for _, r := range roles {
		p, err := s.c.principals.Load(ctx, principalID(s.at.Server, r))
		if err != nil || p != nil && p.Properties.RoleName == r {
			return true, err
		}
	}
	return false, nil
}

// dropRoles is DROP ROLE: what statements made is dropped with its mapping. A
// role that something else uses, or one of the server's own beside it, is
// refused before anything is done.
func (s *stating) dropRoles(ctx context.Context, roles []string) (string, error) {
	for _, r := range roles {
		p, err := s.statedOnly(ctx, r)
		if err != nil {
			return "", err
		}
		if p == nil {
			return "", az.Errorf(az.Unsupported, "", "role %s is mapped to nobody: drop it by a statement of its own", ident(r))
		}
	}
	for _, r := range roles {
		if err := s.drop(ctx, r); err != nil {
			return "", err
		}
	}
	return postgresDone, nil
}

// label is SECURITY LABEL FOR pgaadauth: of a role that a statement made it
// changes the mapping, and NULL drops it. A role of the server's own is never
// taken over: who knows what it may.
func (s *stating) label(ctx context.Context, args []string) (string, error) {
	role := args[0]
	if len(args) == 1 {
		p, err := s.statedOnly(ctx, role)
		if err == nil && p == nil {
			err = az.Errorf(az.NotFound, "RoleNotFound", "role %s does not exist, or is mapped to nobody", ident(role))
		}
		if err != nil {
			return "", err
		}
		return postgresDone, s.drop(ctx, role)
	}
	l, ok := parseLabel(args[1])
	if !ok {
		return "", az.Errorf(az.Invalid, "InvalidLabel", "the label must be 'aadauth,oid=<object id>,type=<user|group|service>[,admin][,mfa]'")
	}
	m, err := s.mappingOf(ctx, role, l.oid, l.kind)
	if err != nil {
		return "", err
	}
	m.admin, m.mfa = l.admin, l.mfa
	err = s.remap(ctx, m)
	if az.Is(err, az.NotFound) {
		err = az.Errorf(az.Unsupported, "", "role %s was not made by this plane, which takes over no roles; make one by pgaadauth_create_principal_with_oid", ident(role))
	}
	return postgresDone, err
}
