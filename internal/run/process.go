package run

import (
	"os"
	"time"
)

// process is one running child. exited gets exactly one value.
type process struct {
	pid    int
	since  time.Time
	exited chan exit
	os     *os.Process
	undo   func() // gives the terminal back
}

// exit is how a child ended, in a shell's numbers.
type exit struct{ code int }

// startProcess starts the program in a process group of its own and waits for
// it in a goroutine that ends with it.
func startProcess(path string, s *session, env []string) (*process, error) {
	attr, undo := attributes(s.Stdin)
	p, err := os.StartProcess(path, s.Argv, &os.ProcAttr{
		Env: env, Files: []*os.File{s.Stdin, s.Stdout, s.Stderr}, Sys: attr,
	})
	if err != nil {
		undo()
		return nil, err
	}
	c := &process{pid: p.Pid, since: s.Clock(), exited: make(chan exit, 1), os: p, undo: undo}
	go func() {
		state, err := p.Wait()
		undo()
		if err != nil {
			c.exited <- exit{exitFailed}
			return
		}
		c.exited <- exit{status(state)}
	}()
	return c, nil
}
