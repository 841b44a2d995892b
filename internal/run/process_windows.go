package run

import (
	"os"
	"syscall"
)

// Windows knows no SIGTERM or SIGHUP for processes: the end of a child is
// always by TerminateProcess, and a change can only restart it.
const (
	terminate = syscall.SIGTERM
	hangup    = syscall.SIGHUP
)

func forwarded() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

func isFatal(os.Signal) bool { return true }

func signalStatus(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return exitFailed
}

func (p *process) signal(sig os.Signal) {
	if sig == terminate {
		p.kill()
	}
	// Ctrl-C reaches the child by itself: it shares our console.
}

func (p *process) kill() { _ = p.os.Kill() }

func status(state *os.ProcessState) int { return state.ExitCode() }

func attributes(*os.File) (*syscall.SysProcAttr, func()) { return nil, func() {} }
