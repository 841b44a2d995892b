package template

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// codeFunctions turn values into other forms: encodings, types and hashes.
func codeFunctions() map[string]function {
	return map[string]function{
		"base64":         {least: 1, most: 1, run: mapText(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		"base64tostring": {least: 1, most: 1, run: func(a *arguments) (any, error) { return unbase64(a) }},
		"base64tojson": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			s, err := unbase64(a)
			if err != nil {
				return nil, err
			}
			return Decode([]byte(s))
		}},
		"json":            {least: 1, most: 1, run: fromJSON},
		"datauri":         {least: 1, most: 1, run: mapText(func(s string) string { return dataURI + base64.StdEncoding.EncodeToString([]byte(s)) })},
		"datauritostring": {least: 1, most: 1, run: fromDataURI},
		"uri":             {least: 2, most: 2, run: joinURI},
		"uricomponent":    {least: 1, most: 1, run: mapText(uriComponent)},
		"uricomponenttostring": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			s, err := a.str(0)
			if err != nil {
				return nil, err
			}
			out, err := url.PathUnescape(s)
			if err != nil || !utf8.ValidString(out) {
				return nil, a.fail(0, "an encoded text")
			}
			return out, nil
		}},
		"int":          {least: 1, most: 1, run: toInt},
		"bool":         {least: 1, most: 1, run: toBool},
		"guid":         {least: 1, most: -1, run: func(a *arguments) (any, error) { return a.hashed(GUID) }},
		"uniquestring": {least: 1, most: -1, run: func(a *arguments) (any, error) { return a.hashed(UniqueString) }},
		"newguid": {run: func(a *arguments) (any, error) {
			if a.s.may&mayDefault == 0 {
				return nil, invalid("The template function 'newGuid' can only be used in the default value of a parameter")
			}
			return a.s.run.host.NewGUID(), nil
		}},
	}
}

func unbase64(a *arguments) (string, error) {
	s, err := a.str(0)
	if err != nil {
		return "", err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		return "", a.fail(0, "a text in base64")
	}
	return string(b), nil
}

func fromJSON(a *arguments) (any, error) {
	s, err := a.str(0)
	if err != nil {
		return nil, err
	}
	v, err := Decode([]byte(s))
	if err != nil {
		return nil, a.fail(0, "a text that is JSON")
	}
	return v, nil
}

const dataURI = "data:text/plain;charset=utf8;base64,"

func fromDataURI(a *arguments) (any, error) {
	s, err := a.str(0)
	if err != nil {
		return nil, err
	}
	head, body, ok := strings.Cut(s, ",")
	if !ok || !strings.HasPrefix(strings.ToLower(head), "data:") {
		return nil, a.fail(0, "a data URI")
	}
	if strings.HasSuffix(strings.ToLower(head), ";base64") {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil || !utf8.Valid(b) {
			return nil, a.fail(0, "a data URI")
		}
		return string(b), nil
	}
	out, err := url.PathUnescape(body)
	if err != nil || !utf8.ValidString(out) {
		return nil, a.fail(0, "a data URI")
	}
	return out, nil
}

// joinURI follows the documentation: with a slash at its end, the base is
// joined with the relative part; else its last part is replaced.
func joinURI(a *arguments) (any, error) {
	t, err := a.strs(0, false)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(t[0])
	if err != nil || base.Scheme == "" || base.Host == "" {
		return nil, a.fail(0, "an absolute URI")
	}
	rel, err := url.Parse(strings.TrimPrefix(t[1], "/"))
	if err != nil {
		return nil, a.fail(1, "a relative URI")
	}
	return base.ResolveReference(rel).String(), nil
}

// uriComponent escapes as .NET's Uri.EscapeDataString does (RFC 3986).
func uriComponent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; isLetter(c) || isDigit(c) || strings.IndexByte("-.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

func toInt(a *arguments) (any, error) {
	switch v := a.list[0].(type) {
	case int64:
		return v, nil
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return n, nil
		}
	}
	return nil, a.fail(0, "a whole number, or a text that is one")
}

func toBool(a *arguments) (any, error) {
	switch v := a.list[0].(type) {
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	case string:
		switch strings.ToLower(v) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
	}
	return nil, a.fail(0, "a text or number that stands for true or false")
}

func (a *arguments) hashed(fn func(...string) string) (any, error) {
	t, err := a.strs(0, false)
	if err != nil {
		return nil, err
	}
	return fn(t...), nil
}
