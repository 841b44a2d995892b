package run

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// adopt makes this process the parent of the app's orphans and reaps them, so
// that they stay known as the app's and leave no zombies. It leaves the child
// itself to the goroutine that waits for it. The returned function ends it.
func adopt(s *session) (stop func()) {
	if s.SharedProcess {
		return func() {}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		s.Logger.Warn("cannot adopt the app's orphans: they will lose the identity endpoint", "error", err)
		s.child.shared = true
		return func() {}
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-children:
				reap(s.child)
				stopped(s.child.main(), terminalOf(s.Stdin), done)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(children)
		close(done)
		<-ended
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	}
}

// terminalOf returns stdin's descriptor if it is a terminal, else -1.
func terminalOf(stdin *os.File) int {
	fd := int(stdin.Fd())
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil {
		return -1
	}
	return fd
}

// reap takes in every dead orphan. Children are looked for by name instead of
// with wait(-1), which would also take the app's own status away.
func reap(t *tree) {
	t.orphans(func(pid int) { _, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) },
		func() []int { return childrenOf(os.Getpid()) })
}
