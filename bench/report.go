package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what one part found; bench/out holds the latest of each.
type report struct {
	Part       string    `json:"part"`
	What       string    `json:"what"`
	Began      time.Time `json:"began"`
	Seconds    int       `json:"seconds"`
	LoadBefore string    `json:"loadBefore"`
	LoadAfter  string    `json:"loadAfter"`
	Rows       []row     `json:"rows"`
	Samples    []sample  `json:"samples"`
}

// row is one line: ours, the limit that was measured beside it, their ratio,
// and what it should be.
type row struct {
	What    string  `json:"what"`
	Ours    string  `json:"ours"`
	Limit   string  `json:"limit"`
	Ratio   float64 `json:"ratio,omitempty"` // ours ÷ limit, of what is counted
	CPU     float64 `json:"cpu,omitempty"`   // the limit's processor time an operation ÷ ours: steadier where others work too
	Target  string  `json:"target"`
	Verdict string  `json:"verdict"` // met, missed, or "" without a target
	Peer    string  `json:"peer"`
}

// sample is one raw measurement.
type sample struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// add prints a row and keeps it. ok says whether the target was met; a row
// without a target has no verdict.
func (b *bench) add(r row, ok bool) {
	if r.Target != "" {
		r.Verdict = "missed"
		if ok {
			r.Verdict = "met"
		}
	}
	b.report.Rows = append(b.report.Rows, r)
	ratio := ""
	if r.Ratio != 0 {
		ratio = "ratio " + r.ratio() + " · "
	}
	fmt.Printf("  %-44s ours %s · limit %s · %starget %s", r.What, dash(r.Ours), dash(r.Limit), ratio, dash(r.Target))
	if r.Verdict != "" {
		fmt.Printf(" (%s)", r.Verdict)
	}
	if r.Peer != "" {
		fmt.Printf(" · peer %s", r.Peer)
	}
	fmt.Println()
}

// ratio words both ratios; "" if there is none.
func (r row) ratio() string {
	switch {
	case r.Ratio == 0:
		return ""
	case r.CPU == 0:
		return fmt.Sprintf("%.2f", r.Ratio)
	}
	return fmt.Sprintf("%.2f (CPU %.2f)", r.Ratio, r.CPU)
}

// cpuRatio is the limit's processor time an operation by ours, 0 if one is
// not known.
func cpuRatio(ours, limit result) float64 {
	if ours.CPU == 0 {
		return 0
	}
	return limit.CPU / ours.CPU
}

func (b *bench) sample(what string, v float64, unit string) {
	b.report.Samples = append(b.report.Samples, sample{what, v, unit})
}

func (r report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Part+".json"), append(out, '\n'), 0o644)
}

// saveBaseline writes the latest report of each part as one document.
func saveBaseline(dir, path string) error {
	var doc strings.Builder
	fmt.Fprintf(&doc, "# Baseline\n\nWritten by `make bench-save` from the latest run of each part (`make bench`). Load generator, server, floors and\ndatabases share one machine (%d cores, %s, %s/%s), so absolute figures are this machine's; the ratios, taken within one\nrun, are what counts; \"CPU\" is the same ratio taken from processor time an operation, the steadiest figure. A spread of 5–10 %% is usual: treat less as a tie. \"Load\" is the load average before and after the\npart; other work on the machine during a run lowers the busy figures of ours and of the limit alike.\n",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, p := range parts() {
		b, err := os.ReadFile(filepath.Join(dir, p.name+".json"))
		if err != nil {
			fmt.Fprintf(&doc, "\n## %s\n\nnot measured\n", p.name)
			continue
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		doc.WriteString(r.markdown())
	}
	return os.WriteFile(path, []byte(doc.String()), 0o644)
}

func (r report) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "\n## %s: %s\n\n%s, %d s, load %s → %s\n\n| what | ours | limit | ratio | target | | peer |\n|---|---|---|---:|---|---|---|\n",
		r.Part, r.What, r.Began.Format("2006-01-02 15:04"), r.Seconds, r.LoadBefore, r.LoadAfter)
	for _, w := range r.Rows {
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | %s | %s |\n", w.What, w.Ours, w.Limit, w.ratio(), w.Target, w.Verdict, w.Peer)
	}
	return s.String()
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// count writes 12345.6 as 12,346, and small figures with two digits.
func count(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// span writes microseconds in a readable unit.
func span(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.2f s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.0f µs", us)
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return def
}
