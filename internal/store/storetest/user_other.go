//go:build !linux

package storetest

import "syscall"

// asServerUser leaves the child as it is: outside Linux run the tests as an
// ordinary user.
func asServerUser() *syscall.SysProcAttr { return nil }

func giveToServerUser(...string) error { return nil }
