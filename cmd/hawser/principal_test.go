package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hawser/hawser/hawsertest"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestConsentCommand(t *testing.T) {
	p := hawsertest.Start(t)
	for _, c := range []struct {
		status int
		args   []string
		want   string
	}{
		{0, []string{"consent", "Microsoft Azure CLI", "Microsoft Graph", "User.Read"}, "User.Read"},
		{0, []string{"consent", "Microsoft Azure CLI", "Microsoft Graph", "Group.Read.All", "user.read"}, "User.Read Group.Read.All"},
		{0, []string{"user", "create", "ann"}, "ann"},
		{0, []string{"consent", "Microsoft Azure CLI", "00000003-0000-0000-c000-000000000000", "Group.Read.All", "--user", "ann"}, "ann"},
		{1, []string{"consent", "Microsoft Azure CLI", "Microsoft Graph", "No.Such"}, "offers no scope"},
		{1, []string{"consent", "nobody", "Microsoft Graph", "User.Read"}, "no application"},
		{0, []string{"app", "create", "web"}, ""},
		{1, []string{"consent", "web", "Microsoft Graph", "User.Read"}, "no application"}, // its identity is no client for people
		{2, []string{"consent", "Microsoft Azure CLI", "Microsoft Graph"}, ""},
	} {
		r := command(t, p, c.args...)
		if r.status != c.status || !strings.Contains(r.out+r.err, c.want) {
			t.Errorf("hawser %v: status %d, want %d with %q\n%s%s", c.args, r.status, c.status, c.want, r.out, r.err)
		}
	}
}

func TestPrincipalCommand(t *testing.T) {
	db, err := url.Parse(storetest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	p := hawsertest.Start(t)
	name := strings.TrimPrefix(db.Path, "/")
	for _, c := range []struct {
		status int
		args   []string
		want   string
	}{
		{0, []string{"attach", "pg1", db.String()}, "pg1"},
		{0, []string{"group", "create", "sales" + name}, ""},
		{0, []string{"user", "create", "ann" + name}, ""},
		{0, []string{"principal", "add", "pg1", "sales" + name, "--database", name}, "Ready"},
		{0, []string{"principal", "add", "pg1", "sales" + name, "--database", name, "--access", "write"}, "write"},
		{0, []string{"principal", "add", "pg1", "ann" + name + "@" + "hawser.localhost", "--database", name}, "Ready"},
		{0, []string{"principal", "list", "pg1", "--output", "tsv"}, name + ":write"},
		{1, []string{"principal", "add", "pg1", "nobody", "--database", name}, "nobody is called"},
		{1, []string{"principal", "add", "pg1", "sales" + name, "--database", name, "--access", "all"}, ""},
		{1, []string{"principal", "remove", "pg1", "nobody"}, "no role"},
		{0, []string{"principal", "remove", "pg1", "sales" + name}, ""},
		{0, []string{"principal", "remove", "pg1", "ann" + name + "@" + "hawser.localhost"}, ""},
	} {
		r := command(t, p, c.args...)
		if r.status != c.status || !strings.Contains(r.out+r.err, c.want) {
			t.Errorf("hawser %v: status %d, want %d with %q\n%s%s", c.args, r.status, c.status, c.want, r.out, r.err)
		}
	}
	if r := command(t, p, "principal", "list", "pg1", "--output", "tsv"); strings.TrimSpace(r.out) != "" {
		t.Errorf("left over: %s", r.out)
	}
}
