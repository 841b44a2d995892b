package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the data directory for this process; the system lets go when
// the process ends, however it ends.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped)); err != nil {
		_ = f.Close()
		return nil, errors.New("another plane uses this data directory; stop it or choose another with --data")
	}
	return func() { _ = f.Close() }, nil
}
