package seal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const hardenChild = "SEAL_HARDEN_CHILD"

// The process is hardened in a child: it cannot be undone here. As root the
// child runs as nobody, for root reads everything anyway.
func TestHardenProcess(t *testing.T) {
	if os.Getenv(hardenChild) != "" {
		hardened(t)
		return
	}
	bin := filepath.Join(t.TempDir(), "child") // where nobody may run it
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(bin); strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(bin, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-test.run=^TestHardenProcess$", "-test.v")
	cmd.Env = append(os.Environ(), hardenChild+"=1")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hardened") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func hardened(t *testing.T) {
	if err := HardenProcess(); err != nil {
		t.Fatal(err)
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &lim); err != nil || lim.Cur != 0 || lim.Max != 0 {
		t.Fatalf("core limit %+v, %v", lim, err)
	}
	// What a plane reads of itself: metrics, its executable, its files.
	for _, name := range []string{"stat", "statm", "status", "limits", "maps", "cmdline"} {
		if _, err := os.ReadFile("/proc/self/" + name); err != nil {
			t.Errorf("%v", err)
		}
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err != nil || len(fds) < 3 {
		t.Errorf("fd: %d, %v", len(fds), err)
	}
	if _, err := os.Readlink("/proc/self/exe"); err != nil {
		t.Error(err)
	}
	// What the same user's other processes may not.
	pid := os.Getpid()
	out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf("cat /proc/%d/environ /proc/%d/mem | head -c 1; readlink /proc/%d/exe", pid, pid, pid)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("another process reads ours: %q, %v", out, err)
	}
	if _, err := os.ReadFile("/proc/self/io"); err != nil {
		t.Logf("as documented: %v", err)
	}
	fmt.Println("hardened")
}
