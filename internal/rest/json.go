package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"

	"github.com/hawser/hawser/internal/az"
)

// maxDepth bounds the nesting of JSON from strangers. Azure's own bodies stay
// below 20; ARM templates below 64.
const maxDepth = 64

// DecodeJSON decodes one JSON value: bounded in depth, nothing after it.
// Errors are Invalid and name the place, never the value.
func DecodeJSON(b []byte, v any) error {
	if err := checkDepth(b); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body holds more than one JSON value.")
	}
	return nil
}

func jsonError(err error) error {
	var known *az.Error
	if errors.As(err, &known) {
		return known
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) && typ.Field != "" {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "The property %q of the request's body has the wrong type.", typ.Field)
	}
	return az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body is not valid JSON of the expected form.")
}

// checkDepth walks the bytes once, before anything is allocated for them.
func checkDepth(b []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body is nested deeper than %d levels.", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func stack() string { return string(debug.Stack()) }
