package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hawser/hawser/hawsertest"
)

func TestPeopleAndGroups(t *testing.T) {
	p := hawsertest.Start(t)
	run := func(status int, args string) result {
		t.Helper()
		r := command(t, p, strings.Fields(args)...)
		if r.status != status {
			t.Fatalf("hawser %s: status %d, want %d\n%s%s", args, r.status, status, r.out, r.err)
		}
		return r
	}
	var made struct{ ID, UserPrincipalName, Password string }
	r := run(0, "user create ann --display-name Ann --mail ann@example.com --output json")
	if err := json.Unmarshal([]byte(r.out), &made); err != nil || len(made.Password) != 24 || !strings.HasPrefix(made.UserPrincipalName, "ann@") {
		t.Fatalf("made %+v: %v", made, err)
	}
	if r := run(0, "user show ann --output json"); strings.Contains(r.out, made.Password) || !strings.Contains(r.out, made.ID) {
		t.Errorf("shown %s", r.out)
	}
	if r := run(0, "user create bob --password-stdin"); strings.Contains(r.out+r.err, "from standard input") {
		t.Errorf("a given password is shown: %s", r.out)
	}
	run(1, "user create ann")
	if r := run(0, "user password ann --output tsv"); len(strings.TrimSpace(r.out)) != 24 || strings.Contains(r.out, made.Password) {
		t.Errorf("the new password is %q", r.out)
	}
	run(0, "user disable bob")
	if r := run(0, "user list --output tsv"); !strings.Contains(r.out, "\tbob\tfalse\t") || !strings.Contains(r.out, "\tAnn\ttrue\t") {
		t.Errorf("listed %s", r.out)
	}
	run(0, "user enable bob")
	run(0, "group create readers --description reading")
	run(0, "group create all")
	run(0, "group add readers ann")
	run(1, "group add readers ann")
	run(0, "group add all readers")
	run(1, "group add readers all")
	run(1, "group add all nobody")
	run(0, "app create web")
	run(0, "group add all web")
	if r := run(0, "group members all --output tsv"); !strings.Contains(r.out, "readers\tgroup\t") || !strings.Contains(r.out, "web\tservicePrincipal\t") {
		t.Errorf("members %s", r.out)
	}
	if r := run(0, "group members readers --output json"); !strings.Contains(r.out, made.ID) {
		t.Errorf("members %s", r.out)
	}
	run(0, "group remove readers ann")
	run(1, "group remove readers ann")
	if r := run(0, "group list"); !strings.Contains(r.out, "readers") || !strings.Contains(r.out, "reading") {
		t.Errorf("listed %s", r.out)
	}
	run(0, "group show readers")
	run(0, "group delete readers")
	run(1, "group show readers")
	run(0, "user delete ann")
	run(1, "user show ann")
}
