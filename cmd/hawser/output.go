package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/hawser/hawser/client"
)

// show prints a result: v as JSON, or rows below a header.
func (a *cli) show(v any, header []string, rows [][]string) error {
	switch a.output {
	case "json":
		if l := reflect.ValueOf(v); l.Kind() == reflect.Slice && l.IsNil() {
			v = []any{} // an empty list, not null
		}
		return printJSON(os.Stdout, v)
	case "tsv":
		for _, r := range rows {
			fmt.Println(strings.Join(clean(r), "\t"))
		}
		return nil
	}
	if len(rows) == 0 {
		fmt.Fprintln(os.Stderr, "(none)")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	if header != nil {
		fmt.Fprintln(w, strings.Join(header, "\t"))
	}
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(clean(r), "\t"))
	}
	return w.Flush()
}

// clean keeps what others named from moving the cursor or breaking the table.
func clean(row []string) []string {
	out := make([]string, len(row))
	for i, cell := range row {
		out[i] = plain(cell)
	}
	return out
}

// plain is a text without what a terminal obeys instead of showing: control
// characters of both sets, and those that turn the direction of writing.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}

// fields shows one object as name and value.
func (a *cli) fields(v any, pairs ...string) error {
	if a.output == "tsv" {
		var row []string
		for i := 1; i < len(pairs); i += 2 {
			row = append(row, pairs[i])
		}
		return a.show(v, nil, [][]string{row})
	}
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		rows = append(rows, []string{pairs[i], pairs[i+1]})
	}
	return a.show(v, nil, rows)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// sentence is what a person reads of an error.
func sentence(err error) string {
	var refused *client.Error
	if errors.As(err, &refused) {
		s := refused.Error()
		if refused.RequestID != "" && refused.Status >= 500 {
			s += " (correlation id " + refused.RequestID + ")"
		}
		return plain(s)
	}
	return plain(err.Error())
}
