package arm

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

const (
	// maxName bounds a resource's name. Source: Azure naming rules, 260 is the
	// longest that any type allows.
	maxName = 260
	// maxTags, maxTagName and maxTagValue bound tags.
	// Source: "Use tags to organize your Azure resources", limitations.
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
	// maxWord bounds location and kind: Azure's own are below 50 characters.
	maxWord = 128
)

// checkWord refuses locations and kinds that are no names. They stand in ids
// and in sentences.
func checkWord(member, s string) error {
	if utf8.RuneCountInString(s) > maxWord || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '/' || r == '\\' }) {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "The member '%s' of the request's body can have at most %d characters, and no slashes or control characters.", member, maxWord)
	}
	return nil
}

// checkName refuses names that no type allows. Each type has narrower rules.
func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, `<>%&\?/#:*"`) {
		return az.Errorf(az.Invalid, "InvalidResourceName", "The resource name is invalid: it must have 1 to %d characters and none of <>%%&\\?/#:*\".", maxName)
	}
	if strings.EqualFold(name, "providers") {
		return az.Errorf(az.Invalid, "ReservedResourceName", "The resource name '%s' is reserved: it has a meaning of its own in resource ids.", name)
	}
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return az.Errorf(az.Invalid, "InvalidTags", "A resource can have at most %d tags.", maxTags)
	}
	for k, v := range tags {
		if k == "" || utf8.RuneCountInString(k) > maxTagName || strings.ContainsAny(k, `<>%&\?/`) {
			return az.Errorf(az.Invalid, "InvalidTagNameCharacters", "A tag name must have 1 to %d characters and none of <>%%&\\?/.", maxTagName)
		}
		if utf8.RuneCountInString(v) > maxTagValue {
			return az.Errorf(az.Invalid, "InvalidTagValueLength", "A tag value can have at most %d characters.", maxTagValue)
		}
	}
	return nil
}

// sameLocation compares locations as ARM does: "West Europe" is westeurope.
func sameLocation(a, b string) bool {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	return fold(a) == fold(b)
}

// mergeJSON applies a merge patch (RFC 7396).
func mergeJSON(target, patch json.RawMessage) (json.RawMessage, error) {
	var raw json.RawMessage // checks depth and form
	if err := rest.DecodeJSON(patch, &raw); err != nil {
		return nil, err
	}
	var t, p any
	if err := decodeNumbers(raw, &p); err != nil {
		return nil, err
	}
	if len(target) > 0 {
		if err := decodeNumbers(target, &t); err != nil {
			return nil, err
		}
	}
	out, err := json.Marshal(merge(t, p))
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	return out, nil
}

// decodeNumbers keeps numbers as they are written: a float64 would round them.
func decodeNumbers(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	return nil
}

func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = merge(t[k], v)
		}
	}
	return t
}
