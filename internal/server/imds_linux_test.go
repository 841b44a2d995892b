package server

import (
	"os"
	"os/exec"
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
	runs.note(os.Getpid(), app)
	if got, ok := runs.of(child.Process.Pid); !ok || !got.Equal(app) {
		t.Fatalf("the supervisor's child is of %v, %v", got, ok)
	}
	runs.apps[os.Getpid()] = supervisor{app, "1"} // another process had this number before us
	if got, ok := runs.of(child.Process.Pid); ok {
		t.Errorf("a stranger's child is taken for a part of %v", got)
	}
	runs.note(child.Process.Pid, app)
	if _, there := runs.apps[os.Getpid()]; there {
		t.Error("a supervisor that is gone is still remembered")
	}
}
