package guard

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// appendRecord writes a record's JSON without its mac and closing brace. It is
// done by hand since it stands on every hot path: no reflection, no garbage.
func appendRecord(b []byte, seq int64, at time.Time, plane string, e *Event) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, `,"at":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = appendField(b, "plane", plane)
	b = appendField(b, "kind", e.Kind)
	b = appendField(b, "who", e.Caller.ObjectID)
	b = appendField(b, "name", e.Caller.Name)
	b = appendField(b, "app", e.Caller.AppID)
	b = appendField(b, "action", e.Action)
	b = appendField(b, "where", e.Where)
	b = appendField(b, "outcome", e.Outcome)
	b = appendField(b, "assignment", e.Assignment)
	b = appendField(b, "role", e.Role)
	b = appendField(b, "reason", e.Reason)
	b = appendField(b, "correlation", e.Correlation)
	b = appendField(b, "peer", e.Peer)
	return appendField(b, "detail", e.Detail)
}

// maxField bounds one field as it is written; longer ones come from strangers
// and are cut. All of a record's fields together stay below maxRecord, so
// that nothing is written that cannot be read again.
const maxField = 2048

func appendField(b []byte, name, v string) []byte {
	if v == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '"')
	b = appendEscaped(b, v)
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendEscaped writes as much of s as fits into a field.
func appendEscaped(b []byte, s string) []byte {
	end := len(b) + maxField - len(`\u0000`)
	for i := 0; i < len(s) && len(b) <= end; {
		run := i // most of every field needs no escape: copied at once
		for run < len(s) && plain[s[run]] {
			run++
		}
		if run > i {
			n := min(run-i, end+1-len(b))
			b = append(b, s[i:i+n]...)
			i += n
			continue
		}
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, s[i:i+n]...)
			}
			i += n
		}
	}
	return b
}
