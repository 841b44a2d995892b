package connector

import (
	"context"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// MySQL's error numbers. Source: MySQL 8.0 Error Message Reference.
const (
	mysqlUnknown      = 1105 // ER_UNKNOWN_ERROR
	mysqlDenied       = 1227 // ER_SPECIFIC_ACCESS_DENIED_ERROR
	mysqlCannotUser   = 1396 // ER_CANNOT_USER
	mysqlNameTooLong  = 1470 // ER_WRONG_STRING_LENGTH
	mysqlUnsupported  = 1235 // ER_NOT_SUPPORTED_YET
	mysqlGeneralState = "HY000"
)

// mysql does the statements of a text for a MySQL server. Each is done when the
// text is read; when one fails, the server runs those before it and then fails
// with its error.
func (s *stating) mysql(ctx context.Context, sql string) (instead string, ok bool) {
	all, ok := parseMySQL(sql)
	if !ok {
		return "", false
	}
	var out strings.Builder
	last, changed := 0, false
	for _, one := range all {
		text, mine, err := s.mysqlOne(ctx, sql, one)
		switch {
		case err != nil:
			s.failed("MySQL", err)
			out.WriteString(sql[last:one.at] + mysqlError(one, err))
			return out.String(), true
		case mine:
			out.WriteString(sql[last:one.at] + text)
			last, changed = one.end, true
		}
	}
	return out.String() + sql[last:], changed
}

// mysqlOne does one statement; mine is false for one that is the server's.
func (s *stating) mysqlOne(ctx context.Context, sql string, one mysqlStatement) (text string, mine bool, err error) {
	switch one.kind {
	case mysqlNothing:
		return mysqlDone, true, nil
	case mysqlGrant:
		return sql[one.at:one.dbAt] + mysqlIdent(mysqlPattern(one.database)) + sql[one.dbEnd:one.end], true, nil
	case mysqlCreate:
		if err := s.allowed(ctx); err != nil {
			return "", true, err
		}
		return mysqlDone, true, s.createMySQL(ctx, one)
	case mysqlDrop:
		mine, err := s.anyMapped(ctx, one.names)
		if err != nil || !mine {
			return "", false, err
		}
		if err := s.allowed(ctx); err != nil {
			return "", true, err
		}
		return mysqlDone, true, s.dropMySQL(ctx, one.names)
	}
	return "", false, nil
}

func (s *stating) createMySQL(ctx context.Context, one mysqlStatement) (err error) {
	m := mapping{role: orText(one.alias, one.names[0])}
	if one.id != "" {
		m.oid, m.kind, err = s.c.byID(ctx, one.id)
	} else {
		m.oid, m.kind, err = s.c.named(ctx, one.names[0])
	}
	if err != nil {
		return err
	}
	if one.lenient {
		p, err := s.stated(ctx, m.role)
		if err != nil || p != nil && p.Properties.PrincipalID == m.oid {
			return err
		}
	}
	return s.create(ctx, m)
}

// dropMySQL drops users, all of which statements made.
func (s *stating) dropMySQL(ctx context.Context, names []string) error {
	for _, name := range names {
		p, err := s.statedOnly(ctx, name)
		if err != nil {
			return err
		}
		if p == nil {
			return az.Errorf(az.Unsupported, "", "'%s'@'%%' is mapped to nobody: drop it by a statement of its own", name)
		}
	}
	for _, name := range names {
		if err := s.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// mysqlError words an error as the server does.
func mysqlError(one mysqlStatement, err error) string {
	code, message := wordsOf(err)
	verb, user := "CREATE USER", ""
	if one.kind == mysqlDrop {
		verb = "DROP USER"
	}
	if len(one.names) > 0 {
		user = orText(one.alias, one.names[0])
	}
	failed := fmt.Sprintf("Operation %s failed for '%s'@'%%'", verb, user)
	switch kind := az.KindOf(err); {
	case code == "InvalidName":
		return signal(mysqlGeneralState, mysqlNameTooLong, message)
	case kind == az.Forbidden, kind == az.Unauthorized:
		return signal("42000", mysqlDenied, "Access denied; you need (at least one of) the CREATE USER privilege(s) for this operation")
	case kind == az.Unsupported:
		return signal("42000", mysqlUnsupported, message)
	case kind == az.Conflict, kind == az.NotFound:
		return signal(mysqlGeneralState, mysqlCannotUser, failed)
	case kind == az.Invalid:
		return signal(mysqlGeneralState, mysqlCannotUser, failed+": "+message)
	}
	return signal(mysqlGeneralState, mysqlUnknown, message)
}
