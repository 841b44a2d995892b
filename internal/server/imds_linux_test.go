package server

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

// A process that has the number of a supervisor that is gone is not one, and
// its children have no identity of that app.
func TestSupervisorsNumberIsNotInherited(t *testing.T) {
	app := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a")
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	var runs runTable
	note := func(pid int) {
		t.Helper()
		if err := runs.note(pid, app); err != nil {
			t.Fatal(err)
		}
	}
	note(os.Getpid())
	if got, ok := runs.of(child.Process.Pid); !ok || !got.Equal(app) {
		t.Fatalf("the supervisor's child is of %v, %v", got, ok)
	}
	runs.apps[os.Getpid()] = supervisor{app, "1"} // another process had this number before us
	if got, ok := runs.of(child.Process.Pid); ok {
		t.Errorf("a stranger's child is taken for a part of %v", got)
	}
	note(child.Process.Pid)
	if _, there := runs.apps[os.Getpid()]; there {
		t.Error("a supervisor that is gone is still remembered")
	}
}

// A plane that is started again knows the apps that are still running, so that
// none of them is the administrator until its supervisor asks again.
func TestSupervisorsAreKnownAfterARestart(t *testing.T) {
	app := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a")
	file := filepath.Join(t.TempDir(), "runs.json")
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	var before, after runTable
	before.load(file)
	if err := before.note(os.Getpid(), app); err != nil {
		t.Fatal(err)
	}
	after.load(file)
	if got, ok := after.of(child.Process.Pid); !ok || !got.Equal(app) {
		t.Errorf("after a restart the app's process is of %v, %v", got, ok)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(bootID()), []byte("another start"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	after.load(file)
	if got, ok := after.of(child.Process.Pid); ok {
		t.Errorf("after a reboot a process with a known number is of %v", got)
	}
}
