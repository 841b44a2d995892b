package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// A backup that is made under writes holds everything acknowledged before it,
// and opens as a store of its own.
func TestBackupAndRestore(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	ctx := context.Background()
	for i := range 20 {
		if err := put(st, vault(fmt.Sprint("v", i)), "e", ""); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			if err := put(st, vault(fmt.Sprint("w", i)), "e", ""); err != nil {
				t.Error(err)
			}
		}
	})
	file := filepath.Join(t.TempDir(), "backup.db")
	if err := st.Backup(ctx, file); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's file: %v %v", info.Mode(), err)
	}
	if err := st.Backup(ctx, file); !az.Is(err, az.Invalid) {
		t.Errorf("over an existing file: %v, want Invalid", err)
	}
	if err := st.Backup(ctx, "relative.db"); !az.Is(err, az.Invalid) {
		t.Errorf("a relative path: %v, want Invalid", err)
	}
	dir := t.TempDir()
	if err := store.Restore(file, dir); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(file, dir); err == nil {
		t.Error("a store was written over")
	}
	again := storetest.Open(t, store.Config{Dir: dir})
	for i := range 20 {
		if _, ok, err := again.Resource(ctx, vault(fmt.Sprint("v", i))); !ok || err != nil {
			t.Fatalf("v%d is not in the backup: %v", i, err)
		}
	}
	if err := put(again, vault("new"), "e", ""); err != nil {
		t.Error(err)
	}
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(odd, t.TempDir()); err == nil {
		t.Error("a file that is no backup was restored")
	}
}
