package easyauth

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// objectOf takes nothing for an empty object.
func objectOf(raw []byte) []byte {
	if len(bytes.TrimSpace(raw)) == 0 {
		return []byte("{}")
	}
	return raw
}

// onceEach refuses members that differ in case alone: one would be shown and
// the other obeyed.
func onceEach(v any) error {
	switch x := v.(type) {
	case map[string]any:
		seen := make(map[string]bool, len(x))
		for k, inner := range x {
			f := strings.ToLower(k)
			if seen[f] {
				return bad("The authentication settings have a member twice, in capital and in small letters. Keep one.")
			}
			seen[f] = true
			if err := onceEach(inner); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range x {
			if err := onceEach(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// span reads a .NET time span, as Azure writes these: [d.]hh:mm:ss.
func span(what, text string, otherwise, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	m := spanForm.FindStringSubmatch(text)
	if m == nil {
		return 0, bad("%s must be a time such as 08:00:00.", what)
	}
	var total time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, _ := strconv.Atoi(m[i+1]) // at most 3 digits, or none
		total += time.Duration(n) * unit
	}
	if total < time.Second || total > most {
		return 0, bad("%s must be between 00:00:01 and %s.", what, most)
	}
	return total, nil
}

var spanForm = regexp.MustCompile(`^(?:(\d{1,3})\.)?(\d{1,2}):(\d{1,2}):(\d{1,2})$`)

// fold brings a word to the spelling it has among some; false if it is none.
func fold(word *string, all ...string) bool {
	for _, w := range all {
		if strings.EqualFold(*word, w) {
			*word = w
			return true
		}
	}
	return false
}

func checkList(what string, list []string) error {
	if len(list) > maxList {
		return bad("%s may have %d entries.", what, maxList)
	}
	for _, x := range list {
		if err := checkText(what, x); err != nil {
			return err
		}
	}
	return nil
}

func checkText(what, text string) error {
	if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }) {
		return bad("A value of %s is longer than %d bytes or holds control characters.", what, maxText)
	}
	return nil
}

func bad(format string, args ...any) *az.Error {
	return az.Errorf(az.Invalid, "BadRequest", format, args...)
}
