package vault

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Limits of secrets. Source: Key Vault service limits and "About secrets".
const (
	maxNameLength  = 127
	maxValue       = 25 << 10 // bytes
	maxContentType = 255
	maxTags        = 15
	maxTagText     = 256 // characters of a tag's name or value
	versionLength  = 32  // hex digits
)

// checkName refuses names and versions that Key Vault cannot have; version may
// be empty.
func checkName(name, version string) error {
	if !validName(name) {
		return badParameter("The request URI contains an invalid name: a secret's name has 1 to 127 letters, digits and dashes.")
	}
	if version != "" && !validVersion(version) {
		return badParameter("The request URI contains an invalid version: a version has 32 hexadecimal digits.")
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > maxNameLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return true
}

func validVersion(s string) bool {
	if len(s) != versionLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// fold lowers ASCII names; those that are lower already cost nothing.
func fold(s string) string { return strings.ToLower(s) }

// change is the body of a set or an update. What is absent stays as it is.
type change struct {
	Value       *string            `json:"value"`
	ContentType *string            `json:"contentType"`
	Tags        *map[string]string `json:"tags"`
	Attributes  struct {
		Enabled   *bool  `json:"enabled"`
		NotBefore *int64 `json:"nbf"`
		Expires   *int64 `json:"exp"`
	} `json:"attributes"`
}

// Source: the last second that fits a store's microseconds with room; Key
// Vault's own clients end at the year 9999.
const maxUnix = 253402300799

// apply checks the change and writes it into a version.
func (c *change) apply(r *store.SecretVersion) error {
	if c.ContentType != nil {
		if !plainText(*c.ContentType, maxContentType) {
			return badParameter("The contentType must have at most %d characters and no control characters.", maxContentType)
		}
		r.ContentType = *c.ContentType
	}
	if c.Tags != nil {
		text, err := tagsText(*c.Tags)
		if err != nil {
			return err
		}
		r.Tags = text
	}
	if c.Attributes.Enabled != nil {
		r.Enabled = *c.Attributes.Enabled
	}
	for _, f := range []struct {
		name string
		from *int64
		to   *az.Micros
	}{{"nbf", c.Attributes.NotBefore, &r.NotBefore}, {"exp", c.Attributes.Expires, &r.Expires}} {
		if f.from == nil {
			continue
		}
		if *f.from < 0 || *f.from > maxUnix {
			return badParameter("The attribute %q must be a time in seconds since 1970.", f.name)
		}
		*f.to = az.Micros(*f.from * 1e6)
	}
	if r.NotBefore != 0 && r.Expires != 0 && r.Expires <= r.NotBefore {
		return badParameter("The attribute \"exp\" must be later than \"nbf\".")
	}
	return nil
}

func plainText(s string, limit int) bool {
	return utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

func tagsText(tags map[string]string) (string, error) {
	if len(tags) == 0 {
		return "", nil
	}
	if len(tags) > maxTags {
		return "", badParameter("A secret can have at most %d tags.", maxTags)
	}
	for k, val := range tags {
		if k == "" || utf8.RuneCountInString(k) > maxTagText || utf8.RuneCountInString(val) > maxTagText {
			return "", badParameter("A tag's name must have 1 to %d characters and its value at most %d.", maxTagText, maxTagText)
		}
	}
	b, err := json.Marshal(tags)
	return string(b), err
}

// tagsOf reads what tagsText wrote.
func tagsOf(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	var tags map[string]string
	if err := json.Unmarshal([]byte(text), &tags); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	return tags, nil
}

// loneSurrogate finds a JSON escape \ud800 to \udfff without its other half.
func loneSurrogate(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if i++; i >= len(b) || b[i] != 'u' {
			continue
		}
		first := hex4(b[i+1:])
		i += 4
		switch {
		case first>>10 == 0xdc00>>10:
			return true
		case first>>10 == 0xd800>>10:
			if len(b) < i+3 || b[i+1] != '\\' || b[i+2] != 'u' || hex4(b[i+3:])>>10 != 0xdc00>>10 {
				return true
			}
			i += 6
		}
	}
	return false
}

// hex4 reads four hexadecimal digits; anything else is 0 and for the decoder
// to refuse.
func hex4(b []byte) uint64 {
	if len(b) < 4 {
		return 0
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return 0
	}
	return n
}

// recoveryLevel says what deleting an object of the vault means.
// Source: DeletionRecoveryLevel of the Key Vault REST API.
func recoveryLevel(vt *store.Vault) string {
	level := "Recoverable"
	if vt.RetentionDays < maxRetention {
		level = "CustomizedRecoverable"
	}
	if vt.PurgeProtection {
		return level
	}
	return level + "+Purgeable"
}

// Days that a deleted vault or secret is kept. Source: softDeleteRetentionInDays.
const (
	minRetention = 7
	maxRetention = 90
)
