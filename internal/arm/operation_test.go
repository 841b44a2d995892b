package arm

import (
	"context"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func TestLongOperations(t *testing.T) {
	gate := make(chan error)
	slow := func() []AnyType {
		return []AnyType{Define("Test.Slow/things", nil, Hooks[boxProps]{
			Work: func(_ context.Context, r, _ *Resource[boxProps]) error {
				err := <-gate
				r.Properties.Color = "done"
				return err
			},
		})}
	}
	eachPlane(t, slow, func(t *testing.T, p *plane) {
		thing := inGroup + "/providers/Test.Slow/things/x"
		withGroup(p)
		poll := func(a answer, name string) string {
			return strings.TrimPrefix(a.header.Get(name), "https://management.hawser.localhost:8443")
		}
		a := p.must(201, owner, "PUT", thing, `{}`)
		if a.at("properties", "provisioningState") != "Creating" || a.header.Get("Retry-After") == "" {
			t.Fatalf("begun: %s %v", a.raw, a.header)
		}
		status, result := poll(a, "Azure-AsyncOperation"), poll(a, "Location")
		if a := p.must(200, owner, "GET", status, ""); a.at("status") != "InProgress" {
			t.Errorf("status: %s", a.raw)
		}
		p.must(202, owner, "GET", result, "")
		p.must(403, stranger, "GET", status, "")
		gate <- nil
		p.waitFor(status, "Succeeded")
		p.must(204, owner, "GET", result, "")
		if a := p.must(200, owner, "GET", thing, ""); a.at("properties", "provisioningState") != "Succeeded" || a.at("properties", "color") != "done" {
			t.Errorf("done: %s", a.raw)
		}
		a = p.must(200, owner, "PUT", thing, `{}`)
		gate <- az.Errorf(az.Invalid, "NoRoom", "There is no room.")
		status, result = poll(a, "Azure-AsyncOperation"), poll(a, "Location")
		a = p.waitFor(status, "Failed")
		if a.at("error", "code") != "NoRoom" {
			t.Errorf("failed: %s", a.raw)
		}
		if a := p.must(409, owner, "GET", result, ""); a.code() != "NoRoom" {
			t.Errorf("result: %s", a.raw)
		}
		if a := p.must(200, owner, "GET", thing, ""); a.at("properties", "provisioningState") != "Failed" {
			t.Errorf("after the failure: %s", a.raw)
		}
	})
}

// waitFor polls as a client does until the operation has ended.
func (p *plane) waitFor(path, status string) answer {
	p.t.Helper()
	for {
		a := p.must(200, owner, "GET", path, "")
		if a.at("status") != stateInProgress {
			if a.at("status") != status {
				p.t.Fatalf("the operation ended as %s", a.raw)
			}
			return a
		}
	}
}
