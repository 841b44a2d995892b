package site

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const (
	// DefaultReferenceTimeout bounds the reading of one reference, so that one
	// slow read does not keep the app from starting.
	DefaultReferenceTimeout = 5 * time.Second
	// resolversAtOnce bounds how many references of one app are read at a
	// time: enough to hide a database's round trip, few enough that one app's
	// start does not take every connection to the store.
	resolversAtOnce = 8
)

// The two places where references stand.
const (
	kindSettings    = "appsettings"
	kindConnections = "connectionstrings"
)

// ReferenceStatus is a setting that names a secret, and how that went.
type ReferenceStatus struct {
	Name      string `json:"name"`
	Reference string `json:"reference"`
	Status    Status `json:"status"`
	Details   string `json:"details"`

	kind    string    // kindSettings or kindConnections
	ref     Reference // zero if it could not be parsed
	active  string    // the version that was read
	by      Assigned  // whose right it was read with
	settled bool      // ref is to be read
	passing bool      // the failure may end without any change of the store
}

// resolver reads the references of one site at one moment.
type resolver struct {
	s      *Sites
	caller az.Principal
	values map[Reference]*outcome
}

// outcome is a reference read once, however often it stands in the settings.
type outcome struct {
	status  Status
	details string
	version string
	value   string
	passing bool
}

// findReferences lists the references among settings and connection strings.
func (s *Sites) findReferences(d *document) []ReferenceStatus {
	var out []ReferenceStatus
	add := func(kind, name, value string) {
		st := ReferenceStatus{Name: name, Reference: value, Status: Initialized, kind: kind}
		switch {
		case looksLikeReference(value):
			ref, no := parseReference(value, s.cfg.Names)
			if no != nil {
				st.Status, st.Details = no.status, sentence(no)
			} else {
				st.ref, st.settled = ref, true
			}
		case hasPrefixFold(value, appConfigurationOpen):
			st.Status, st.Details = OtherReasons, "References to App Configuration are not served by this plane: the app sees the literal text."
		default:
			return
		}
		st.Reference = strings.ToValidUTF8(st.Reference[:min(len(st.Reference), maxReference)], "")
		out = append(out, st)
	}
	for _, name := range sortedKeys(d.App) {
		add(kindSettings, name, d.App[name])
	}
	for _, name := range sortedKeys(d.Connections) {
		add(kindConnections, name, d.Connections[name].Value)
	}
	return out
}

func sentence(no *refused) string {
	if no.status == InvalidSyntax {
		return "The text is no Key Vault reference: " + no.reason + "."
	}
	return strings.ToUpper(no.reason[:1]) + no.reason[1:] + "."
}

// read reads every reference of the list, several at a time, each once.
func (v *resolver) read(ctx context.Context, refs []ReferenceStatus) {
	var todo []Reference
	for i := range refs {
		if r := refs[i].ref; refs[i].settled && v.values[r] == nil {
			v.values[r] = &outcome{}
			todo = append(todo, r)
		}
	}
	// The first few are read here: most apps have few, and a warm read is
	// cheaper than a goroutine.
	next := make(chan Reference)
	var workers sync.WaitGroup
	for range min(resolversAtOnce, len(todo)) - 1 {
		workers.Go(func() { // ends when next is closed, below
			for r := range next {
				*v.values[r] = v.one(ctx, r)
			}
		})
	}
	for _, r := range todo {
		select {
		case next <- r:
		default:
			*v.values[r] = v.one(ctx, r)
		}
	}
	close(next)
	workers.Wait()
}

// one reads a secret as the app's own identity.
func (v *resolver) one(ctx context.Context, r Reference) outcome {
	ctx, cancel := context.WithTimeout(ctx, v.s.cfg.ReferenceTimeout)
	defer cancel()
	err := ctx.Err()
	if err == nil {
		secret, err2 := v.s.cfg.Vaults.Get(ctx, v.caller, r.Vault, r.Secret, r.Version)
		if err = err2; err == nil {
			return resolvedTo(r, secret.Version, secret.Value.Reveal())
		}
	}
	status, details := statusOf(ctx, err, r, v.caller.Name+" ("+v.caller.ObjectID+")")
	passing := status == OtherReasons || status == FetchTimedOut
	if passing {
		v.s.cfg.Log.Warn("site: a Key Vault reference could not be read", "vault", r.Vault, "secret", r.Secret, "error", err)
	}
	return outcome{status: status, details: details, passing: passing}
}

// resolvedTo refuses what no environment can carry.
func resolvedTo(r Reference, version, value string) outcome {
	if strings.IndexByte(value, 0) >= 0 {
		return outcome{status: OtherReasons, details: "The secret '" + r.Secret + "' holds a NUL byte, which no environment variable can carry. Store it encoded, for example in base64."}
	}
	return outcome{status: Resolved, version: version, value: value,
		details: "Reference has been successfully resolved."}
}

// resolve replaces the references of a site's settings by what they name. What
// cannot be read keeps its literal text, as on App Service. The document's
// maps are changed.
func (s *Sites) resolve(ctx context.Context, site az.ID, d *document, who identitySet, by Assigned, no *refused) []ReferenceStatus {
	refs := s.findReferences(d)
	if no == nil {
		v := &resolver{s: s, caller: s.principal(site, by, who.names[by.PrincipalID]), values: map[Reference]*outcome{}}
		v.read(ctx, refs)
		size := 0
		for i := range refs {
			if refs[i].settled {
				size += refs[i].take(d, v.values[refs[i].ref], by, size)
			}
		}
		return refs
	}
	for i := range refs {
		if refs[i].settled {
			refs[i].Status, refs[i].Details = no.status, no.reason
		}
	}
	return refs
}

// maxResolved bounds what the references of a site may bring into its
// environment, for the same reason as maxSettingsSize.
const maxResolved = 512 << 10

// take puts a value where its reference stood, if there is room, and returns
// its size.
func (st *ReferenceStatus) take(d *document, o *outcome, by Assigned, used int) (size int) {
	st.Status, st.Details, st.active, st.by, st.passing = o.status, o.details, o.version, by, o.passing
	switch {
	case o.status != Resolved:
		return 0
	case used+len(o.value) > maxResolved:
		st.Status, st.active = OtherReasons, ""
		st.Details = "The secrets that the app refers to are together larger than an environment can be. Read large ones from the vault at run time."
		return 0
	case st.kind == kindSettings:
		d.App[st.Name] = o.value
	default:
		d.Connections[st.Name] = ConnectionString{o.value, d.Connections[st.Name].Type}
	}
	return len(o.value)
}
