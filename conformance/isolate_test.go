package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The tests live in a mount and a network namespace of their own: a hosts file
// that nobody else sees, port 443, the metadata address of Azure's VMs, and no
// way out. A client that asked the real Azure would find no network.

const insideVar = "HAWSER_CONFORMANCE_INSIDE"

const (
	metadataAddress = "169.254.169.254"
	arcKeys         = "/var/opt/azcmagent/tokens" // where clients of Azure Arc read
)

func isolated() bool { return os.Getenv(insideVar) != "" }

// isolate runs this program again in namespaces of its own.
func isolate() (int, error) {
	runtime.LockOSThread() // Pdeathsig follows the thread
	room, err := os.MkdirTemp("", "hawser-conformance-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(room) }()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+room, binVar+"="+hawser)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("cannot make a network and a hosts file for the tests alone: run them as root, outside of a restricted container (%w)", err)
	}
	return 0, nil
}

// furnish makes the namespaces a machine that the tests can use: a copy of
// /etc, the loopback network with the metadata address, Arc's directory.
func furnish() error {
	room := os.Getenv(insideVar)
	etc := filepath.Join(room, "etc")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot copy /etc: %w\n%s", err, out)
	}
	f, err := os.OpenFile(filepath.Join(etc, "hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "\n%s\n", hostLine()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := syscall.Mount(etc, "/etc", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot lay a copy over /etc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/var/opt", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("cannot lay a directory over /var/opt: %w", err)
	}
	if err := os.MkdirAll(arcKeys, 0o750); err != nil {
		return err
	}
	return network()
}

// network switches the loopback interface on and gives it the metadata
// address as a second one.
func network() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("cannot switch the loopback interface on: %w", err)
	}
	for _, set := range []struct {
		what    uint
		address [4]byte
	}{{unix.SIOCSIFADDR, [4]byte{169, 254, 169, 254}}, {unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 255}}} {
		alias, err := unix.NewIfreq("lo:azure")
		if err != nil {
			return err
		}
		if err := alias.SetInet4Addr(set.address[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.what, alias); err != nil {
			return fmt.Errorf("cannot give the loopback interface the address %s: %w", metadataAddress, err)
		}
	}
	return nil
}
