package server

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// The table of supervisors outlives the plane: between a restart and the
// moment when a supervisor asks again, its app must not be taken for the
// administrator on the local socket.

// keptRuns is the file's content. Processes are known by when they were born
// since the system was started, so it is worth something until the next boot.
type keptRuns struct {
	Boot string    `json:"boot"`
	Runs []keptRun `json:"runs"`
}

type keptRun struct {
	PID  int    `json:"pid"`
	Born string `json:"born"`
	App  az.ID  `json:"app"`
}

// bootID tells one start of the system from another; "" where none is known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// save writes the table; mu is held.
func (t *runTable) save() error {
	if t.file == "" {
		return nil
	}
	k := keptRuns{Boot: bootID(), Runs: []keptRun{}}
	for pid, s := range t.apps {
		k.Runs = append(k.Runs, keptRun{pid, s.born, s.app})
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return writeFileAtomic(t.file, b, 0o600)
}

// load reads what an earlier start kept; of processes that are gone it takes
// nothing. A file that is missing or damaged is none.
func (t *runTable) load(file string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file, t.apps = file, map[int]supervisor{}
	var k keptRuns
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &k) != nil || k.Boot == "" || k.Boot != bootID() {
		return
	}
	for _, r := range k.Runs {
		if r.Born != "" && born(r.PID) == r.Born {
			t.apps[r.PID] = supervisor{r.App, r.Born}
		}
	}
}
