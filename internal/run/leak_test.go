//go:build unix

package run

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestNothingStays: goroutines and descriptors return to what they were.
func TestNothingStays(t *testing.T) {
	p := newPlane(t)
	once := func() {
		t.Run("", func(t *testing.T) {
			r := start(t, p, Config{AzureNames: true, Environ: []string{}}, "token", "https://vault.azure.net")
			r.wait()
		})
	}
	once()
	files, routines := openFiles(), runtime.NumGoroutine()
	for range 10 {
		once()
	}
	// The test's own helpers and the plane's idle connections need a moment.
	for range 200 {
		if openFiles() <= files && runtime.NumGoroutine() <= routines {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d files and %d goroutines, before %d and %d", openFiles(), runtime.NumGoroutine(), files, routines)
}

func openFiles() int {
	d, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(d)
}
