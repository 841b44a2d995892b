package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// SQL Server's error numbers. Source: wire/databases.md §4 and sys.messages.
const (
	sqlUserExists = 15023
	sqlNoRight    = 15247
	sqlNotFound   = 33130
	sqlDuplicate  = 33131
	sqlUnresolved = 33134
)

// tsql does the statements about principals of a batch. Each is done when the
// batch is read, whatever its control flow and transactions say, and replaced
// by one that makes the user of a login: that is the server's to run or not.
func (s *stating) tsql(ctx context.Context, sql string) (instead string, ok bool) {
	all, ok := parseTSQL(sql)
	if !ok {
		return "", false
	}
	var out strings.Builder
	last := 0
	for _, one := range all {
		text, mine, err := s.tsqlOne(ctx, one)
		if err != nil {
			s.failed("T-SQL", err)
			text, mine = tsqlError(one, err), true
		}
		if mine {
			out.WriteString(sql[last:one.at] + text)
			last = one.end
		}
	}
	return out.String() + sql[last:], last > 0
}

// tsqlOne does one statement; mine is false for one that is the server's.
func (s *stating) tsqlOne(ctx context.Context, one tsqlStatement) (text string, mine bool, err error) {
	if one.kind == tsqlDrop {
		p, err := s.statedFold(ctx, one.name)
		if err != nil || p == nil {
			return "", false, err
		}
		if err := s.allowed(ctx); err != nil {
			return "", true, err
		}
		if one.login {
			return tsqlDone, true, s.drop(ctx, p.Properties.RoleName)
		}
		return s.dropUser(ctx, one, p)
	}
	if err := s.allowed(ctx); err != nil {
		return "", true, err
	}
	m := mapping{role: one.name, again: true, in: s.database()}
	if m.oid, m.kind, err = s.tsqlPrincipal(ctx, one); err != nil {
		return "", true, err
	}
	if one.login {
		m.in = ""
		return tsqlDone, true, s.create(ctx, m)
	}
	return one.forLogin(), true, s.create(ctx, m)
}

// database is where the session began. Azure's servers have no USE; where there
// is one, the user is made where the session is, and known here as this one's.
func (s *stating) database() string { return orText(s.at.Database, sqlMaster) }

// tsqlPrincipal finds who is meant.
func (s *stating) tsqlPrincipal(ctx context.Context, one tsqlStatement) (oid string, kind az.PrincipalKind, err error) {
	switch {
	case one.oid != "":
		oid, kind, err = s.c.principal(ctx, one.oid)
	case one.sid != "":
		oid, kind, err = s.c.byID(ctx, one.sid)
		if err == nil && (kind == az.Group) != one.group {
			err = az.Errorf(az.Invalid, nameUnknown, "")
		}
	default:
		return s.c.named(ctx, one.name)
	}
	if az.Is(err, az.Invalid) {
		err = az.Errorf(az.Invalid, nameUnknown, "").Because(err)
	}
	return oid, kind, err
}

// statedFold is stated, where names differ in case only by the server's rules.
func (s *stating) statedFold(ctx context.Context, name string) (*arm.Resource[principalProperties], error) {
	rows, err := s.c.principalRows(ctx, s.at.Server)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if strings.EqualFold(row.Properties.RoleName, name) {
			if p, err := s.stated(ctx, row.Properties.RoleName); err != nil || p != nil {
				return p, err
			}
		}
	}
	return nil, nil
}

// dropUser is DROP USER in one database: the last one takes the login with it.
func (s *stating) dropUser(ctx context.Context, one tsqlStatement, p *arm.Resource[principalProperties]) (text string, mine bool, err error) {
	here := func(d string) bool { return strings.EqualFold(d, s.database()) }
	left := slices.DeleteFunc(slices.Clone(p.Properties.StatedIn), here)
	switch {
	case len(left) == len(p.Properties.StatedIn):
		return "", false, nil
	case len(left) == 0:
		return "DROP USER IF EXISTS " + bracket(one.name), true, s.drop(ctx, p.Properties.RoleName)
	}
	err = s.c.locked(ctx, statementLock(p.ID), func(ctx context.Context) error {
		if err := s.record(ctx, p.ID, fmt.Sprintf("role %q is no user of %q any more", p.Properties.RoleName, s.database())); err != nil {
			return err
		}
		return s.c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			now, err := s.c.principals.Read(tx, p.ID)
			if err != nil || now == nil {
				return err
			}
			now.Properties.StatedIn = slices.DeleteFunc(slices.Clone(now.Properties.StatedIn), here)
			return s.c.principals.Write(tx, now)
		})
	})
	return "", false, err
}

// tsqlError words an error as the server does.
func tsqlError(one tsqlStatement, err error) string {
	code, message := wordsOf(err)
	switch kind := az.KindOf(err); {
	case code == nameUnknown:
		return raiseError(sqlNotFound, one.name)
	case code == nameAmbiguous:
		return raiseError(sqlDuplicate, one.name)
	case kind == az.Forbidden, kind == az.Unauthorized:
		return raiseError(sqlNoRight)
	case kind == az.Conflict && code != "AnotherOperationInProgress":
		return raiseError(sqlUserExists, one.name)
	}
	return raiseError(sqlUnresolved, one.name, message)
}
