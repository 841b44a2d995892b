package server

import (
	"context"
	"encoding/json"
	"os"
	"testing"
)

// After a rotation the plane's own sealed values lie under the newest data key,
// and still open.
func TestResealOwn(t *testing.T) {
	dir, err := os.MkdirTemp("", "hawser") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx := context.Background()
	s, err := Start(ctx, Config{Data: dir, Listen: "127.0.0.1:0", PG: "off", MySQL: "off", TDS: "off", Redis: "off", Hosts: "off", IMDS: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.keys.rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := s.resealOwn(ctx); err != nil || n != 3 {
		t.Fatalf("%d values were sealed anew, want 3: %v", n, err)
	}
	b, _, err := s.store.Meta(ctx, metaTenant)
	if err != nil {
		t.Fatal(err)
	}
	var got tenant
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if s.keys.sealer.NeedsReseal(got.AdminSecret) || s.keys.sealer.NeedsReseal(got.UserPassword) {
		t.Error("the first start's credentials lie under the old data key")
	}
	if plain, err := s.keys.sealer.Open(tenantPlace("adminSecret"), got.AdminSecret); err != nil || len(plain) == 0 {
		t.Errorf("the administrator's secret does not open: %v", err)
	}
	if n, err := s.resealOwn(ctx); err != nil || n != 0 {
		t.Errorf("the second time %d were sealed anew: %v", n, err)
	}
}
