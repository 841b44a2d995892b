package run

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// stopped passes job control on. The app's group is in the terminal's
// foreground, so Ctrl-Z stops the app and not us, and the shell would wait for
// ever: if the app has stopped we give the terminal back and stop too, and
// when the shell continues us, the app goes on.
func stopped(pid, fd int, done <-chan struct{}) {
	if pid <= 0 || fd < 0 {
		return
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	if err != nil || info.Signo != int32(unix.SIGCHLD) {
		return
	}
	takeTerminal(fd, unix.Getpgrp())
	// Other threads stop at once, this one perhaps a few instructions later:
	// only SIGCONT says that the stop is over.
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	select {
	case <-continued:
	case <-done:
	}
	if front, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && front == unix.Getpgrp() {
		takeTerminal(fd, pid)
	}
	_ = unix.Kill(-pid, unix.SIGCONT)
}
