//go:build unix

package run

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// The signals the supervisor itself sends.
const (
	terminate = syscall.SIGTERM
	hangup    = syscall.SIGHUP
)

// forwarded lists the signals passed on to the child's group: all that people
// and service managers send to programs. One that was ignored when we were
// started (nohup) stays ignored.
func forwarded() []os.Signal {
	var list []os.Signal
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGALRM} {
		if !signal.Ignored(sig) {
			list = append(list, sig)
		}
	}
	return list
}

func isFatal(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT || sig == syscall.SIGHUP
}

func signalStatus(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return exitFailed
}

func (p *process) signal(sig os.Signal) {
	if n, ok := sig.(syscall.Signal); ok {
		_ = unix.Kill(-p.pid, n)
	}
}

func (p *process) kill() { _ = unix.Kill(-p.pid, unix.SIGKILL) }

func status(state *os.ProcessState) int {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return exitSignal + int(ws.Signal())
	}
	return state.ExitCode()
}

// attributes puts the child into its own group, so that signals reach all of
// it and none of us. Where we are in the foreground of a terminal the child's
// group takes that place, or it could not read; undo takes it back.
func attributes(stdin *os.File) (attr *syscall.SysProcAttr, undo func()) {
	attr = &syscall.SysProcAttr{Setpgid: true}
	fd := int(stdin.Fd())
	front, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	ours := unix.Getpgrp()
	if err != nil || front != ours {
		return attr, func() {}
	}
	attr.Foreground, attr.Ctty = true, fd
	return attr, func() { takeTerminal(fd, ours) }
}

// takeTerminal puts a group into the terminal's foreground. From the
// background that would stop us by SIGTTOU.
func takeTerminal(fd, group int) {
	signal.Ignore(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
	signal.Reset(syscall.SIGTTOU)
}
