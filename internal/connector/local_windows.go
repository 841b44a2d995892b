package connector

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// localRefusal: stopping a server in order and closing it to other users both
// need what Unix has.
func localRefusal() string { return "that is not served on Windows; adopt a server instead" }

func giveToLocalUser(string) error { return nil }

func localCommand(context.Context, string, string, *os.File, ...string) (*exec.Cmd, func(), error) {
	return nil, nil, errors.New("not on Windows")
}

func interrupt(int) {}
func quit(int)      {}
