//go:build unix

package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listenPrivate makes a socket that is this user's alone from its first
// moment.
func listenPrivate(path string) (net.Listener, error) { return listenMode(path, 0o177) }

// listenShared makes a socket that every user may connect to.
func listenShared(path string) (net.Listener, error) { return listenMode(path, 0o111) }

func listenMode(path string, mask int) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("cannot listen at %q: --unix is an absolute path", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("cannot listen at %s: somebody does already", path)
		}
		_ = os.Remove(path) // left by one that did not end well
	}
	old := unix.Umask(mask)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	return l, nil
}
