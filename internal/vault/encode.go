package vault

import (
	"strconv"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Replies are written by hand: a secret read stands on the hot path, and one
// buffer is all the garbage it makes.

// bundle is how a reply shows a version of a secret.
type bundle struct {
	vault   *store.Vault
	base    string // https://host[:port]
	r       *store.SecretVersion
	version bool // in the id: everywhere but in lists of secrets
	deleted bool // with recoveryId and dates
}

// size is room enough unless the value needs much escaping.
func (s *bundle) size(value int) int {
	return 420 + value + value/8 + len(s.base)*2 + len(s.r.Name)*2 + len(s.r.ContentType) + len(s.r.Tags)
}

// appendTo writes the bundle; value nil leaves it out.
func (s *bundle) appendTo(b, value []byte) []byte {
	b = append(b, '{')
	if value != nil {
		b = append(b, `"value":`...)
		b = appendString(b, value)
		b = append(b, ',')
	}
	b = append(b, `"id":"`...)
	b = append(b, s.base...)
	b = append(b, `/secrets/`...)
	b = append(b, s.r.Name...)
	if s.version {
		b = append(b, '/')
		b = append(b, s.r.Version...)
	}
	b = append(b, '"')
	if s.r.ContentType != "" {
		b = append(b, `,"contentType":`...)
		b = appendString(b, s.r.ContentType)
	}
	b = s.appendAttributes(b)
	b = append(b, `,"tags":`...)
	if s.r.Tags == "" {
		b = append(b, `{}`...)
	} else {
		b = append(b, s.r.Tags...)
	}
	if s.deleted {
		b = append(b, `,"recoveryId":"`...)
		b = append(b, s.base...)
		b = append(b, `/deletedsecrets/`...)
		b = append(b, s.r.Name...)
		b = append(b, '"')
		b = appendTime(b, "deletedDate", s.r.Deleted)
		b = appendTime(b, "scheduledPurgeDate", s.r.PurgeAt)
	}
	return append(b, '}')
}

func (s *bundle) appendAttributes(b []byte) []byte {
	b = append(b, `,"attributes":{"enabled":`...)
	b = strconv.AppendBool(b, s.r.Enabled)
	b = appendTime(b, "nbf", s.r.NotBefore)
	b = appendTime(b, "exp", s.r.Expires)
	b = appendTime(b, "created", s.r.Created)
	b = appendTime(b, "updated", s.r.Updated)
	b = append(b, `,"recoveryLevel":"`...)
	b = append(b, recoveryLevel(s.vault)...)
	b = append(b, `","recoverableDays":`...)
	b = strconv.AppendInt(b, int64(s.vault.RetentionDays), 10)
	return append(b, '}')
}

// appendTime writes a field in seconds since 1970, or nothing for none.
func appendTime(b []byte, name string, t az.Micros) []byte {
	if t == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, int64(t)/1e6, 10)
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)])); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		b = append(b, s[from:i]...)
		switch {
		case c >= utf8.RuneSelf:
			b = append(b, `\ufffd`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
