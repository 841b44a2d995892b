package template

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dateFunctions are about time. Source: "Date functions for ARM templates".
func dateFunctions() map[string]function {
	return map[string]function{
		"utcnow": {most: 1, run: func(a *arguments) (any, error) {
			if a.s.may&mayDefault == 0 {
				return nil, invalid("The template function 'utcNow' can only be used in the default value of a parameter")
			}
			return a.date(a.s.run.host.Now, 0, "yyyyMMddTHHmmssZ")
		}},
		"datetimeadd":     {least: 2, most: 3, run: dateAdd},
		"datetimetoepoch": {least: 1, most: 1, run: func(a *arguments) (any, error) { t, err := a.time(0); return t.Unix(), err }},
		"datetimefromepoch": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			n, err := a.int(0)
			return time.Unix(n, 0).UTC().Format("2006-01-02T15:04:05Z"), err
		}},
	}
}

func (a *arguments) time(i int) (time.Time, error) {
	s, err := a.str(i)
	if err != nil {
		return time.Time{}, err
	}
	for _, layout := range []string{time.RFC3339Nano, "20060102T150405Z", "2006-01-02 15:04:05Z", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, a.fail(i, "a time such as 2026-01-31T12:00:00Z")
}

var duration = regexp.MustCompile(`^(-)?P(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?$`)

func dateAdd(a *arguments) (any, error) {
	t, err := a.time(0)
	if err != nil {
		return nil, err
	}
	s, err := a.str(1)
	if err != nil {
		return nil, err
	}
	m := duration.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return nil, a.fail(1, "a duration such as P1DT2H")
	}
	var n [7]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+2]) // "" is 0; the pattern has digits only
		if m[1] == "-" {
			n[i] = -n[i]
		}
	}
	t = t.AddDate(n[0], n[1], 7*n[2]+n[3]).Add(time.Duration(n[4])*time.Hour + time.Duration(n[5])*time.Minute + time.Duration(n[6])*time.Second)
	return a.date(t, 2, "yyyy-MM-ddTHH:mm:ssZ")
}

// dateParts are the parts of a .NET format that are served, longest first.
var dateParts = []struct{ part, layout string }{
	{"yyyy", "2006"}, {"MMMM", "January"}, {"MMM", "Jan"}, {"dddd", "Monday"}, {"ddd", "Mon"}, {"fffffff", ".0000000"}, {"fff", ".000"},
	{"yy", "06"}, {"MM", "01"}, {"dd", "02"}, {"HH", "15"}, {"hh", "03"}, {"mm", "04"}, {"ss", "05"}, {"tt", "PM"},
}

// standardDates are the formats of one letter.
var standardDates = map[string]string{"d": "MM/dd/yyyy", "D": "dddd, dd MMMM yyyy", "u": "yyyy-MM-dd HH:mm:ssZ", "s": "yyyy-MM-ddTHH:mm:ss",
	"o": "yyyy-MM-ddTHH:mm:ss.fffffffZ", "O": "yyyy-MM-ddTHH:mm:ss.fffffffZ"}

// date writes a time in the format that argument i gives, if there is one.
func (a *arguments) date(t time.Time, i int, format string) (any, error) {
	if i < len(a.list) {
		var err error
		if format, err = a.str(i); err != nil {
			return nil, err
		}
	}
	if long, ok := standardDates[format]; ok {
		format = long
	}
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, invalid("A time is before the year 1 or after 9999")
	}
	var b strings.Builder
next:
	for format != "" {
		for _, p := range dateParts {
			if strings.HasPrefix(format, p.part) {
				b.WriteString(strings.TrimPrefix(t.Format(p.layout), "."))
				format = format[len(p.part):]
				continue next
			}
		}
		if c := format[0]; isLetter(c) && c != 'T' && c != 'Z' && c != '_' {
			return nil, a.fail(i, "a date format that is served here (yyyy, MM, dd, HH, mm, ss, fff and the like)")
		}
		b.WriteByte(format[0])
		format = format[1:]
	}
	return b.String(), nil
}
