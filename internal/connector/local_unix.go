//go:build unix && !linux

package connector

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// localRefusal says why the plane may not run servers as the user it is.
func localRefusal() string {
	if os.Geteuid() == 0 {
		return "PostgreSQL does not run as root; run the plane as another user"
	}
	return ""
}

func giveToLocalUser(string) error { return nil }

// localCommand runs a program of PostgreSQL on a data directory.
func localCommand(ctx context.Context, bin, dir string, password *os.File, args ...string) (*exec.Cmd, func(), error) {
	cmd := plainCommand(ctx, bin, dir, password, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, func() {}, nil
}

func interrupt(pid int) { _ = syscall.Kill(pid, syscall.SIGINT) }
func quit(pid int)      { _ = syscall.Kill(pid, syscall.SIGQUIT) }
