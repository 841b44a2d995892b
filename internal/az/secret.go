package az

import (
	"fmt"
	"log/slog"
)

// Redacted is what a Secret prints everywhere.
const Redacted = "REDACTED"

// Secret is text that must not be seen: it prints REDACTED under every fmt
// verb, slog and JSON. Reveal is the only way to the text, so that a search
// for Reveal finds every use.
type Secret struct {
	// A function, because fmt asks unexported fields no methods and would
	// print a string, or what a pointer points at.
	text func() string
}

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.text == nil }

func (Secret) String() string               { return Redacted }
func (Secret) GoString() string             { return Redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(Redacted)) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(Redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
