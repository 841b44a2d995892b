package run

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// Doors opens further ways in for the app, such as ports of its databases, and
// returns the variables that tell of them. It is called before the app starts
// and again after each change of its environment; what it opened stays open
// until its owner closes it, after Run.
type Doors func(context.Context, App, *client.Environment) ([]Variables, error)

// Variables go together: where the app's own settings have one of Unless, none
// is set.
type Variables struct {
	Set    map[string]string
	Unless []string
	Drop   []string // not to be inherited from this process: they would contradict
}

// App is what a run lends to Doors.
type App struct{ s *session }

// Client is the way to the plane.
func (a App) Client() *client.Client { return a.s.Client }

// SiteID is the app's ARM id.
func (a App) SiteID() string { return a.s.siteID }

// Log is where the run reports.
func (a App) Log() *slog.Logger { return a.s.Logger }

// Clock is the run's.
func (a App) Clock() az.Clock { return a.s.Clock }

// errNotKnown is why there are no doors where processes are not known.
var errNotKnown = errors.New("this system cannot tell which process is at the other end of a connection")

// CanTell reports whether Admit can answer on this system.
func (a App) CanTell() error {
	if !peersKnown {
		return errNotKnown
	}
	return nil
}

// Admit refuses a connection, by TCP on this machine or a Unix socket, whose
// other end is not one of the app's processes.
func (a App) Admit(c net.Conn) error {
	t := a.s.child
	if t.anyone {
		return nil
	}
	if !peersKnown {
		return errNotKnown
	}
	_, err := t.find(c)
	if err != nil {
		t.report(a.s.Logger, "refused a database's port to a process that the app did not start", &peer{conn: c, err: err}, a.s.Clock())
	}
	return err
}

// Token gives the app's own token for a resource, from the cache that the
// identity endpoint has; clientID names a user-assigned identity, "" the
// system-assigned one.
func (a App) Token(ctx context.Context, resource, clientID string) (az.Secret, time.Time, error) {
	r := &request{resource: resource}
	if clientID != "" {
		r.kind, r.id = byClient, clientID
	}
	ans, err := a.s.cache.get(ctx, r)
	if err != nil {
		return az.Secret{}, time.Time{}, err
	}
	var text string
	if err := json.Unmarshal([]byte(ans.token), &text); err != nil {
		return az.Secret{}, time.Time{}, err
	}
	return az.NewSecret(text), time.Unix(ans.expires, 0), nil
}

// openDoors asks for the doors of an environment and keeps what they say.
func (s *session) openDoors(ctx context.Context, env *client.Environment) error {
	if s.Doors == nil {
		return nil
	}
	v, err := s.Doors(ctx, App{s}, env)
	if err == nil {
		s.doors.Store(&v)
	}
	return err
}

// setDoors adds the variables of doors, but for those that the app's own
// settings speak about.
func setDoors(vars map[string]string, own map[string]bool, doors []Variables) {
	for _, d := range doors {
		if slices.ContainsFunc(d.Unless, func(name string) bool { return own[key(name)] }) {
			continue
		}
		for _, name := range d.Drop {
			if !own[key(name)] {
				delete(vars, key(name))
			}
		}
		for name, value := range d.Set {
			addUnless(vars, own, name, value)
		}
	}
}
