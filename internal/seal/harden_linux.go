package seal

import (
	"fmt"
	"syscall"
)

// HardenProcess keeps this process's memory out of core dumps (limit 0, which
// children inherit) and from debuggers and /proc readers of the same user
// (not dumpable, which exec resets for children). The process itself still
// reads its own /proc, but for files of mode 0400 there (io, environ, auxv),
// which then belong to root.
func HardenProcess() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("seal: turning core dumps off: %w", err)
	}
	// Not dumpable as well: a core pattern that is a pipe ignores the limit.
	return HideProcess()
}

// HideProcess is the part of HardenProcess that children do not inherit: it
// keeps memory and environment from other processes of the same user.
func HideProcess() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return fmt.Errorf("seal: making the process not dumpable: %w", errno)
	}
	return nil
}
