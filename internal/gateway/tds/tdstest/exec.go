package tdstest

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The statements every server knows. They are compared without case.
var (
	reSelect  = regexp.MustCompile(`(?is)^select\s+(.+)$`)
	reSeries  = regexp.MustCompile(`(?is)^select\s+value(?:\s*,\s*replicate\s*\(\s*n?'(.)'\s*,\s*(\d+)\s*\)(?:\s+as\s+\w+)?)?\s+from\s+generate_series\s*\(\s*1\s*,\s*(\d+)\s*\)$`)
	reWait    = regexp.MustCompile(`(?is)^waitfor\s+delay\s+'(\d\d):(\d\d):(\d\d(?:\.\d+)?)'$`)
	reUse     = regexp.MustCompile(`(?is)^use\s+\[?([^\]\s]+)\]?$`)
	reRaise   = regexp.MustCompile(`(?is)^raiserror\s*\(\s*n?'([^']*)'\s*,\s*(\d+)\s*,\s*(\d+)\s*\)(?:\s+with\s+log)?$`)
	reKill    = regexp.MustCompile(`(?is)^kill\s+(\d+)$`)
	reContext = regexp.MustCompile(`(?is)^exec\s+sp_set_session_context\s+n?'([^']+)'\s*,\s*n?'([^']*)'$`)
	reTemp    = regexp.MustCompile(`(?is)^create\s+table\s+(#\w+)\s*\(.*\)$`)
	reLevel   = regexp.MustCompile(`(?is)^set\s+transaction\s+isolation\s+level\s+(.+)$`)
	rePrint   = regexp.MustCompile(`(?is)^print\s+n?'([^']*)'$`)
	reItem    = regexp.MustCompile(`(?is)^(.*?)(?:\s+as\s+\[?(\w+)\]?)?$`)
	reCall    = regexp.MustCompile(`(?is)^(session_context|object_id)\s*\(\s*n?'([^']+)'\s*\)$`)
)

// Error makes a Result of an error.
func Error(number int32, class byte, format string, args ...any) Result {
	return Result{Err: &Message{Number: number, State: 1, Class: class, Text: fmt.Sprintf(format, args...)}}
}

// builtin runs what Options.Exec did not know.
func (x *Session) builtin(ctx context.Context, sql string, params []Param) Result {
	if m := reSeries.FindStringSubmatch(sql); m != nil {
		return series(m)
	}
	if m := reSelect.FindStringSubmatch(sql); m != nil {
		return x.choose(m[1], params)
	}
	if m := reWait.FindStringSubmatch(sql); m != nil {
		return wait(ctx, m)
	}
	if r, ok := x.change(sql); ok {
		return r
	}
	return Error(102, 15, "Incorrect syntax near '%.60s'.", sql)
}

// change is statements that give no rows.
func (x *Session) change(sql string) (Result, bool) {
	word := strings.ToLower(sql)
	switch m := find(sql, reUse, reRaise, reKill, reContext, reTemp, reLevel, rePrint); {
	case m.by == reUse && !x.Server.HasDatabase(m.text[1]):
		return Error(911, 16, "Database '%s' does not exist. Make sure that the name is entered correctly.", m.text[1]), true
	case m.by == reUse:
		return Result{Database: m.text[1], Infos: []Message{{Number: 5701, State: 1, Text: "Changed database context to '" + m.text[1] + "'."}}}, true
	case m.by == reRaise:
		class, _ := strconv.Atoi(m.text[2])
		return raise(m.text[1], byte(class)), true
	case m.by == reKill:
		n, _ := strconv.ParseUint(m.text[1], 10, 16)
		if uint16(n) == x.ID {
			return Error(6104, 16, "Cannot use KILL to kill your own process."), true
		}
		if !x.Server.Kill(uint16(n)) {
			return Error(6106, 16, "Process ID %d is not an active process ID.", n), true
		}
		return Result{}, true
	case m.by == reContext:
		x.Context[m.text[1]] = m.text[2]
		return Result{}, true
	case m.by == reTemp:
		x.Temp[strings.ToLower(m.text[1])] = true
		return Result{}, true
	case m.by == reLevel:
		x.Level = strings.ToUpper(m.text[1])
		return Result{}, true
	case m.by == rePrint:
		return Result{Infos: []Message{{State: 1, Text: m.text[1]}}}, true
	case strings.HasPrefix(word, "set "):
		return Result{}, true
	case word == "begin tran" || word == "begin transaction":
		if x.Tran == 0 {
			x.begun()
		}
		return Result{}, true
	case word == "commit" || word == "rollback" || word == "commit transaction" || word == "rollback transaction" || word == "if @@trancount > 0 rollback":
		x.Tran = 0
		return Result{}, true
	}
	return Result{}, false
}

type found struct {
	by   *regexp.Regexp
	text []string
}

func find(sql string, all ...*regexp.Regexp) found {
	for _, re := range all {
		if m := re.FindStringSubmatch(sql); m != nil {
			return found{re, m}
		}
	}
	return found{}
}

func raise(text string, class byte) Result {
	m := Message{Number: 50000, State: 1, Class: class, Text: text}
	if class <= 10 {
		return Result{Infos: []Message{m}}
	}
	return Result{Err: &m}
}

func wait(ctx context.Context, m []string) Result {
	h, _ := strconv.Atoi(m[1])
	min, _ := strconv.Atoi(m[2])
	sec, _ := strconv.ParseFloat(m[3], 64)
	return Result{Wait: func() {
		t := time.NewTimer(time.Duration(h)*time.Hour + time.Duration(min)*time.Minute + time.Duration(sec*float64(time.Second)))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}}
}

// series is GENERATE_SERIES, for as many rows as a test wants.
func series(m []string) Result {
	n, _ := strconv.ParseInt(m[3], 10, 64)
	cols := []Column{{"value", BigInt}}
	wide := m[1] != ""
	text := ""
	if wide {
		times, _ := strconv.Atoi(m[2])
		text = strings.Repeat(m[1], min(times, 4000))
		cols = append(cols, Column{"", NVarChar})
	}
	var rows iter.Seq[[]any] = func(yield func([]any) bool) {
		for i := int64(1); i <= n; i++ {
			row := []any{i}
			if wide {
				row = append(row, text)
			}
			if !yield(row) {
				return
			}
		}
	}
	return Result{Sets: []Set{{Columns: cols, Rows: rows}}}
}

// choose is a SELECT of values without a table.
func (x *Session) choose(list string, params []Param) Result {
	var set Set
	var row []any
	for _, item := range splitList(list) {
		m := reItem.FindStringSubmatch(strings.TrimSpace(item))
		v, err := x.value(strings.TrimSpace(m[1]), params)
		if err != nil {
			return Result{Err: err}
		}
		set.Columns = append(set.Columns, Column{m[2], typeOf(v)})
		row = append(row, v)
	}
	set.Rows = Rows(row)
	return Result{Sets: []Set{set}}
}

// splitList splits at the commas that are in neither quotes nor brackets.
func splitList(s string) []string {
	var out []string
	depth, quoted, from := 0, false, 0
	for i, c := range s {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			out, from = append(out, s[from:i]), i+1
		}
	}
	return append(out, s[from:])
}

func (x *Session) value(e string, params []Param) (any, *Message) {
	switch strings.ToLower(e) {
	case "null":
		return nil, nil
	case "@@spid":
		return int64(x.ID), nil
	case "@@trancount":
		if x.Tran != 0 {
			return int64(1), nil
		}
		return int64(0), nil
	case "@@version":
		return "Microsoft SQL Server (a test's)", nil
	case "db_name()":
		return x.Database, nil
	case "suser_sname()", "system_user", "original_login()":
		return x.Login, nil
	case "host_name()":
		return x.Host, nil
	case "app_name()":
		return x.App, nil
	case "transaction_isolation_level":
		return x.Level, nil
	}
	if n, err := strconv.ParseInt(e, 10, 64); err == nil {
		return n, nil
	}
	if m := reCall.FindStringSubmatch(e); m != nil {
		if strings.EqualFold(m[1], "session_context") {
			return x.Context[m[2]], nil
		}
		if x.Temp[strings.ToLower(strings.TrimPrefix(m[2], "tempdb.."))] {
			return int64(1), nil
		}
		return nil, nil
	}
	if t := strings.TrimPrefix(strings.TrimPrefix(e, "N"), "n"); len(t) >= 2 && t[0] == '\'' && t[len(t)-1] == '\'' {
		return strings.ReplaceAll(t[1:len(t)-1], "''", "'"), nil
	}
	if strings.HasPrefix(e, "@") {
		for _, p := range params {
			if strings.EqualFold(p.Name, e) {
				return p.Value, nil
			}
		}
		return nil, &Message{Number: 137, State: 2, Class: 15, Text: fmt.Sprintf("Must declare the scalar variable %q.", e)}
	}
	return nil, &Message{Number: 207, State: 1, Class: 16, Text: fmt.Sprintf("Invalid column name '%.60s'.", e)}
}

func typeOf(v any) Type {
	switch v.(type) {
	case int64:
		return BigInt
	case bool:
		return Bit
	case float64:
		return Float
	case []byte:
		return VarBinary
	}
	return NVarCharMax
}
