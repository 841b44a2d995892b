package az

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrBadID is wrapped by every error of ParseID.
var ErrBadID = errors.New("not an ARM resource id")

// MaxIDLength bounds an ARM id in bytes.
// Source: ARM limits a resource id to 2,048 characters.
const MaxIDLength = 2048

// ID is an ARM resource id or scope. The zero ID is the root scope "/".
//
// ARM compares ids without regard to case but returns them as they were
// created, so an ID keeps both: String is as written, Key is folded.
type ID struct {
	text string
	key  string
}

// Root is the scope that contains every other.
var Root = ID{}

// foldsToASCII are the letters outside ASCII that fold to ASCII ones, each by
// some rules and not by others: long s, Kelvin, I with a dot. An id with one
// would be two ids, one to those who compare and another to those who look up.
const foldsToASCII = "\u017f\u212a\u0130"

// ParseID reads an id such as
// /subscriptions/S/resourceGroups/G/providers/NS/type/name. Repeated and
// trailing slashes are folded. It refuses empty ids of odd shape, control
// characters, what is not UTF-8, dot segments and anything longer than MaxIDLength.
func ParseID(s string) (ID, error) {
	if len(s) > MaxIDLength {
		return ID{}, fmt.Errorf("%w: longer than %d characters", ErrBadID, MaxIDLength)
	}
	if s == "" || s[0] != '/' {
		return ID{}, fmt.Errorf("%w: it must start with a slash", ErrBadID)
	}
	if !isASCII(s) && (!utf8.ValidString(s) || strings.ContainsAny(s, foldsToASCII)) {
		return ID{}, fmt.Errorf("%w: it holds a character that ids cannot have", ErrBadID)
	}
	segs := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	for _, seg := range segs {
		if seg == "." || seg == ".." {
			return ID{}, fmt.Errorf("%w: dot segments are not allowed", ErrBadID)
		}
		for i := 0; i < len(seg); i++ {
			if c := seg[i]; c < 0x20 || c == 0x7f || c == '?' || c == '#' || c == '\\' || c == '%' {
				return ID{}, fmt.Errorf("%w: it holds a character that ids cannot have", ErrBadID)
			}
		}
	}
	return fromSegments(segs), nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// MustParseID is ParseID for constants; it panics on a bad id.
func MustParseID(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func fromSegments(segs []string) ID {
	if len(segs) == 0 {
		return Root
	}
	t := "/" + strings.Join(segs, "/")
	return ID{text: t, key: strings.ToLower(t)}
}

// String returns the id as it was created; "/" for the root.
func (id ID) String() string {
	if id.text == "" {
		return "/"
	}
	return id.text
}

// Key returns the folded form under which ids are stored and compared; "/"
// for the root.
func (id ID) Key() string {
	if id.key == "" {
		return "/"
	}
	return id.key
}

// IsRoot reports whether the id is the root scope.
func (id ID) IsRoot() bool { return id.key == "" }

// Equal compares two ids as ARM does: without regard to case.
func (id ID) Equal(o ID) bool { return id.key == o.key }

// Within reports whether id is scope or lies below it.
func (id ID) Within(scope ID) bool {
	if scope.key == "" {
		return true
	}
	return strings.HasPrefix(id.key, scope.key) &&
		(len(id.key) == len(scope.key) || id.key[len(scope.key)] == '/')
}

func (id ID) segments() []string {
	if id.text == "" {
		return nil
	}
	return strings.Split(id.text[1:], "/")
}

// lastProviders returns the index of the last "providers" segment, or -1.
func lastProviders(segs []string) int {
	for i := len(segs) - 1; i >= 0; i-- {
		if strings.EqualFold(segs[i], "providers") && i+1 < len(segs) {
			return i
		}
	}
	return -1
}

// Type returns the resource type with its namespace, as written, e.g.
// "Microsoft.KeyVault/vaults"; "Microsoft.Resources/resourceGroups" and
// "Microsoft.Resources/subscriptions" for those scopes; "" for anything else.
func (id ID) Type() string {
	segs := id.segments()
	if p := lastProviders(segs); p >= 0 {
		t := segs[p+1]
		for i := p + 2; i < len(segs); i += 2 {
			t += "/" + segs[i]
		}
		return t
	}
	switch {
	case len(segs) == 4 && strings.EqualFold(segs[2], "resourceGroups"):
		return "Microsoft.Resources/resourceGroups"
	case len(segs) == 2 && strings.EqualFold(segs[0], "subscriptions"):
		return "Microsoft.Resources/subscriptions"
	}
	return ""
}

// IsType reports whether the id's type is t, without regard to case.
func (id ID) IsType(t string) bool { return strings.EqualFold(id.Type(), t) }

// IsCollection reports whether the id ends in a type name and not in the name
// of a resource, as in …/providers/Microsoft.KeyVault/vaults.
func (id ID) IsCollection() bool {
	segs := id.segments()
	if p := lastProviders(segs); p >= 0 {
		return (len(segs)-p-2)%2 == 1
	}
	return len(segs)%2 == 1
}

// Name returns the last segment: the resource's name.
func (id ID) Name() string {
	if i := strings.LastIndexByte(id.text, '/'); i >= 0 {
		return id.text[i+1:]
	}
	return ""
}

// Subscription returns the subscription's id, or "".
func (id ID) Subscription() string { return id.after(0, "subscriptions") }

// ResourceGroup returns the resource group's name, or "".
func (id ID) ResourceGroup() string { return id.after(2, "resourceGroups") }

func (id ID) after(at int, word string) string {
	segs := id.segments()
	if len(segs) > at+1 && strings.EqualFold(segs[at], word) {
		return segs[at+1]
	}
	return ""
}

// Parent returns the scope that directly contains the id: a child resource's
// parent resource, a resource's resource group, an extension resource's
// target, a resource group's subscription, and at last the root.
func (id ID) Parent() ID {
	segs := id.segments()
	if p := lastProviders(segs); p >= 0 {
		if rest := len(segs) - p - 2; rest > 2 {
			return fromSegments(segs[:len(segs)-2+rest%2])
		}
		return fromSegments(segs[:p])
	}
	if len(segs) > 2 {
		return fromSegments(segs[:2])
	}
	return Root
}

// Child returns the id with more segments, e.g. id.Child("providers",
// "Microsoft.KeyVault", "vaults", "kv1"). Segments must hold no slash.
func (id ID) Child(segs ...string) ID {
	text := id.text + "/" + strings.Join(segs, "/")
	if len(segs) == 0 {
		return id
	}
	// Only what is new needs folding; most of it is in lower case already.
	return ID{text: text, key: id.key + strings.ToLower(text[len(id.text):])}
}

// MarshalText writes the id as created.
func (id ID) MarshalText() ([]byte, error) {
	if id.text == "" {
		return nil, nil
	}
	return []byte(id.text), nil
}

// UnmarshalText parses; an empty text is the root.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = Root
		return nil
	}
	p, err := ParseID(string(b))
	*id = p
	return err
}
