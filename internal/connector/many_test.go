package connector

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/store/storetest"
)

// TestManyAtOnce makes, repeats and deletes connections on two planes at once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	a, b := storetest.Pair(t)
	one := newPlane(t, a)
	two := newRig(t, b, one.sealer, one.f)
	one.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
	var wg sync.WaitGroup
	for i := range 6 {
		r := []*rig{one, two}[i%2]
		name := one.conn(fmt.Sprint("n", i/2)) // each by both planes
		wg.Go(func() {
			for range 3 {
				status, out := r.call(boss, "PUT", sites+"web"+linkers+name, r.linkBody("nodejs", []Access{Read, Write, Owner}[i/2], ""))
				if status != 200 && status != 409 && status != 503 {
					t.Errorf("PUT: %d %s", status, out)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	who := one.identity("web")
	if err := b.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		name := one.conn(fmt.Sprint("n", i))
		conn := two.mustEnter(who, "aad_"+name)
		tries(t, conn, map[string]bool{`select * from todo`: true, `insert into todo (what) values ('x')`: i > 0, `create table x (i int)`: i == 2})
		wg.Go(func() { one.call(boss, "DELETE", sites+"web"+linkers+name, "") })
		wg.Go(func() { two.call(boss, "DELETE", sites+"web"+linkers+name, "") })
	}
	wg.Wait()
	for i := range 3 {
		name := one.conn(fmt.Sprint("n", i))
		one.must(boss, "DELETE", sites+"web"+linkers+name, "")
		if err := one.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if one.roleExists("aad_" + name) {
			t.Errorf("the role of %s is still there", name)
		}
	}
	if p, n := one.traces(); p != 0 || n != 4 {
		t.Errorf("%d roles and %d assignments are left", p, n)
	}
}
