package connector

import (
	"testing"

	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// TestSQLTriggers: nothing is changed in a database where a trigger would run
// with the rights of the plane's own login.
func TestSQLTriggers(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	planted, other := f.role("planted"), f.role("other")
	on := grant{Database: "shop", Access: Owner}
	if _, err := f.realise(t.Context(), planted, on, false); err != nil {
		t.Fatal(err)
	}
	f.c.Change("shop", func(d *tdstest.Database) { d.Triggers = []string{"takeover"} })
	if _, err := f.realise(t.Context(), other, on, false); codeOf(err) != "DatabaseHasTrigger" {
		t.Errorf("granted: %v", err)
	}
	if _, there := f.c.User("shop", "other"); there {
		t.Error("a user was made")
	}
	if err := f.drop(t.Context(), planted); codeOf(err) != "DatabaseHasTrigger" {
		t.Errorf("dropped: %v", err)
	}
	if l, there := f.s.Login("planted"); !there || !l.Disabled {
		t.Error("the one who planted it is not shut out")
	}
	f.c.Change("shop", func(d *tdstest.Database) { d.Triggers = nil })
	if err := f.drop(t.Context(), planted); err != nil {
		t.Error(err)
	}
}
