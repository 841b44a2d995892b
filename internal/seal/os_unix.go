//go:build unix

package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ownerOnly refuses a file that anybody but its owner may touch, or that
// belongs to a third user.
func ownerOnly(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("may be read by others (mode %04o): run chmod 600 on it, and if others could have read it, rotate the key", perm)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return errors.New("belongs to another user: chown it to the plane's user")
	}
	return nil
}

func notWorld(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o007 != 0 {
		return fmt.Errorf("may be read by everybody (mode %04o)", perm)
	}
	return nil
}

// syncDir makes a new name in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
