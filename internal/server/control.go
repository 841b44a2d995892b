package server

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// Rights of the plane's own operations, at the root scope. Owner has them all,
// Reader those that end in read.
var (
	readAudit   = guard.Control("Hawser.Audit/records/read")
	verifyAudit = guard.Control("Hawser.Audit/verify/action")
	rotateSeal  = guard.Control("Hawser.Seal/rotate/action")
	readStatus  = guard.Control("Hawser.Status/status/read")
	readEnv     = guard.Control("Hawser.Status/environment/action")
	makeBackup  = guard.Control("Hawser.Status/backup/action")
	adminToken  = guard.Control("Hawser.Status/token/action")
)

// controlRoutes are what commands ask of the plane itself.
func (s *Server) controlRoutes() {
	a := s.parts.arm
	a.Handle("GET", "/providers/Hawser.Audit/records", readAudit, s.auditRecords)
	a.Handle("POST", "/providers/Hawser.Audit/verify", verifyAudit, func(ctx context.Context, _ *arm.Call) (any, error) {
		return s.parts.guard.Audit().Verify(ctx)
	})
	a.Handle("POST", "/providers/Hawser.Seal/rotate", rotateSeal, s.rotate)
	a.Handle("GET", "/providers/Hawser.Status/status", readStatus, s.status)
	a.Handle("GET", "/providers/Hawser.Status/environment", readEnv, s.environment)
	a.Handle("POST", "/providers/Hawser.Status/backup", makeBackup, s.backup)
	a.Handle("POST", "/providers/Hawser.Status/token", adminToken, s.adminToken)
}

// auditPage is how many records one answer carries.
const auditPage = 1000

type auditAnswer struct {
	Value []json.RawMessage `json:"value"`
	Next  int64             `json:"next"` // pass as after
	More  bool              `json:"more"`
}

// auditRecords answers with the records after a number, or with the newest n
// for after=-n.
func (s *Server) auditRecords(ctx context.Context, call *arm.Call) (any, error) {
	after := int64(0)
	if v := call.Query.Get("after"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, az.Errorf(az.Invalid, "InvalidParameter", "The parameter after must be a record's number, or minus how many of the newest are wanted.")
		}
		after = n
	}
	log := s.parts.guard.Audit()
	if after < 0 {
		after = max(0, log.Seq()+after)
	}
	out := auditAnswer{Value: []json.RawMessage{}, Next: after}
	err := log.Each(ctx, after, func(line []byte, r guard.Record) bool {
		if len(out.Value) == auditPage {
			out.More = true
			return false
		}
		out.Value = append(out.Value, append(json.RawMessage(nil), line...))
		out.Next = r.Seq
		return true
	})
	return out, err
}

func (s *Server) rotate(ctx context.Context, call *arm.Call) (any, error) {
	var in struct {
		KEK bool `json:"kek"`
	}
	if len(call.Body) > 0 {
		if err := call.Decode(&in); err != nil {
			return nil, err
		}
	}
	do := s.keys.rotate
	if in.KEK {
		do = s.keys.rotateKEK
	}
	switch err := do(ctx); {
	case errors.Is(err, errRotatedElsewhere), errors.Is(err, errNoKEKFile):
		return nil, az.Errorf(az.Conflict, "RotationFailed", "The keys were not rotated: %v.", err)
	case err != nil: // it may name files, so it is for the log
		return nil, err
	}
	if err := s.parts.guard.Record(ctx, guard.Event{Kind: guard.EventSystem, Caller: call.Caller, Action: rotateSeal.Name, Outcome: guard.Allowed}); err != nil {
		return nil, err
	}
	if !in.KEK {
		s.reseal()
	}
	return map[string]any{"kek": s.keys.sealer.KEKID(), "dataKeys": s.keys.sealer.Keys()}, nil
}

func (s *Server) status(ctx context.Context, _ *arm.Call) (any, error) {
	kind := "sqlite"
	if s.store.Postgres() {
		kind = "postgres"
	}
	readiness := "ready"
	if err := s.store.Ping(ctx); err != nil {
		readiness = "the store does not answer"
	}
	hosts := s.hostsOff
	if hosts == "" {
		hosts = s.cfg.Hosts
	}
	return map[string]any{
		"plane": s.id, "url": s.URL(), "store": kind, "readiness": readiness, "hosts": hosts, "imds": s.listens["imds"],
		"pg": s.listens["pg"], "metrics": "http://" + s.listens["admin"] + "/metrics", "tenantId": s.names.Tenant,
		"subscriptionId": s.names.Subscription, "started": s.began.UTC().Format(time.RFC3339), "goroutines": runtime.NumGoroutine(),
		"changes": s.store.Seq(), "auditRecords": s.parts.guard.Audit().Seq(), "dataKeys": s.keys.sealer.Keys(), "kek": s.keys.sealer.KEKID(),
	}, nil
}

// environment adds the first start's credentials to what plane.json says. They
// are shown over the local socket only, and each showing is recorded.
func (s *Server) environment(ctx context.Context, _ *arm.Call) (any, error) {
	if _, ok := isLocal(ctx); !ok {
		return nil, errNotLocal
	}
	secret, err := s.keys.sealer.Open(tenantPlace("adminSecret"), s.tenant.AdminSecret)
	if err != nil {
		return nil, err
	}
	password, err := s.keys.sealer.Open(tenantPlace("userPassword"), s.tenant.UserPassword)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"admin": map[string]string{"clientId": s.tenant.AdminClientID, "clientSecret": string(secret), "objectId": s.tenant.AdminObjectID},
		"user":  map[string]string{"name": s.tenant.UserName, "password": string(password)},
	}, nil
}

// adminToken gives the caller on the local socket a token of the administrator.
func (s *Server) adminToken(ctx context.Context, call *arm.Call) (any, error) {
	if _, ok := isLocal(ctx); !ok {
		return nil, errNotLocal
	}
	var in struct {
		Resource string `json:"resource"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	t, err := s.parts.authority.PrincipalToken(ctx, authority.IdentityRequest{ObjectID: s.tenant.AdminObjectID, Resource: in.Resource})
	if err != nil {
		return nil, err
	}
	return map[string]any{"accessToken": t.AccessToken.Reveal(), "expiresOn": t.ExpiresOn.Unix()}, nil
}

// backup copies the store to a file on the plane's machine, so only for who is
// there.
func (s *Server) backup(ctx context.Context, call *arm.Call) (any, error) {
	if _, ok := isLocal(ctx); !ok {
		return nil, errNotLocal
	}
	var in struct {
		File string `json:"file"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	return nil, s.store.Backup(ctx, in.File)
}
