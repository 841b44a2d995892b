package arm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// Provisioning states, and the states of operations.
const (
	StateSucceeded  = "Succeeded"
	StateFailed     = "Failed"
	StateCanceled   = "Canceled"
	StateCreating   = "Creating"
	StateUpdating   = "Updating"
	stateInProgress = "InProgress"
)

const (
	// operationTime bounds a long operation. One that is older and not done was
	// on a plane that is gone.
	operationTime = 10 * time.Minute
	// operationKept is how long its outcome can be asked for.
	operationKept = 24 * time.Hour
	// pollAfter is the Retry-After of a running operation, in seconds.
	pollAfter = "2"

	operationsName = "Hawser.Resources/operations"
)

var actionOperationRead = guard.Control("Hawser.Resources/operations/read")

// operation is a long operation as it lies in the store, so that every plane
// can answer for it. It holds no secret.
type operation struct {
	Status   string          `json:"status"`
	Resource az.ID           `json:"resource"`
	Right    string          `json:"right"`
	Caller   string          `json:"caller"`
	Started  az.Micros       `json:"started"`
	Ended    az.Micros       `json:"ended"`
	Error    *failure        `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
}

type failure struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Details []failure `json:"details,omitempty"`
}

// background owns the goroutines of long operations.
type background struct {
	mu     sync.Mutex // guards closed and stops
	closed bool
	stops  map[*context.CancelFunc]bool
	wg     sync.WaitGroup
}

func (b *background) run(fn func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if b.stops == nil {
		b.stops = map[*context.CancelFunc]bool{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), operationTime)
	b.stops[&cancel] = true
	b.wg.Go(func() {
		defer func() {
			cancel()
			b.mu.Lock()
			delete(b.stops, &cancel)
			b.mu.Unlock()
		}()
		fn(ctx)
	})
	return true
}

func (b *background) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	done := make(chan struct{})
	go func() { b.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	for stop := range b.stops {
		(*stop)()
	}
	b.mu.Unlock()
	<-done
	return ctx.Err()
}

// Start runs work in the background and returns the 202 that tells the client
// where to ask for its outcome. work's result is kept in clear: it must hold no
// secret. Only whoever started it, or may read the resource, can ask.
func (a *API) Start(ctx context.Context, call *Call, work func(context.Context) (any, error)) (*rest.Reply, error) {
	id, err := a.startWork(ctx, call, work)
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusAccepted, Header: a.pollHeader(call, id)}, nil
}

func (a *API) startWork(ctx context.Context, call *Call, work func(context.Context) (any, error)) (az.ID, error) {
	id := a.subscription().Child("providers", "Hawser.Resources", "operations", az.NewGUID())
	op := operation{Status: stateInProgress, Resource: call.ID, Caller: call.Caller.ObjectID, Started: az.MicrosOf(a.now())}
	if t, _, _ := a.resolve(call.ID); t != nil {
		op.Right = t.info().read.Name
	}
	row, err := op.row(id)
	if err != nil {
		return id, err
	}
	err = a.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := forgetOperations(tx); err != nil {
			return err
		}
		return tx.PutResource(row, "")
	})
	if err != nil {
		return id, err
	}
	correlation := az.Correlation(ctx)
	if !a.work.run(func(ctx context.Context) { a.finish(az.WithCorrelation(ctx, correlation), row, op, work) }) {
		a.finish(ctx, row, op, func(context.Context) (any, error) { return nil, context.Canceled })
		return id, az.Errorf(az.Unavailable, "ServiceUnavailable", "The plane is about to stop; try again.")
	}
	return id, nil
}

// forgetOperations deletes those whose outcome nobody asks for any more.
func forgetOperations(tx *store.Tx) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: operationsName})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if tx.Now()-row.Updated > az.Micros(operationKept.Microseconds()) {
			if _, err := tx.DeleteResource(row.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (op *operation) row(id az.ID) (store.Resource, error) {
	b, err := json.Marshal(op)
	if err != nil {
		return store.Resource{}, az.Errorf(az.Internal, "", "").Because(err)
	}
	return store.Resource{ID: id, ETag: az.NewGUID(), Body: b}, nil
}

// finish runs the work and stores its outcome.
func (a *API) finish(ctx context.Context, row store.Resource, op operation, work func(context.Context) (any, error)) {
	result, err := a.safely(ctx, work)
	op.Status, op.Ended = StateSucceeded, az.MicrosOf(a.now())
	if err == nil && result != nil {
		op.Result, err = json.Marshal(result)
	}
	if err != nil {
		op.Status, op.Result = StateFailed, nil
		op.Error = failed(err)
		a.cfg.Log.Warn("arm: a long operation failed", "resource", op.Resource.String(), "error", err)
	}
	done, err := op.row(row.ID)
	if err == nil {
		// The outcome is stored even if the work's time is over.
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		defer cancel()
		err = a.cfg.Store.Write(wctx, func(tx *store.Tx) error { return tx.PutResource(done, row.ETag) })
	}
	if err != nil {
		a.cfg.Log.Error("arm: the outcome of a long operation could not be stored", "resource", op.Resource.String(), "error", err)
	}
}

func (a *API) safely(ctx context.Context, work func(context.Context) (any, error)) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.cfg.Log.Error("arm: a long operation panicked", "panic", p)
			err = az.Errorf(az.Internal, "", "")
		}
	}()
	return work(ctx)
}

// failed words an error as the client may see it.
func failed(err error) *failure {
	var e *az.Error
	if !errors.As(err, &e) || e.Kind == az.Internal {
		return &failure{Code: "InternalServerError", Message: "Something went wrong inside the server; its log says what."}
	}
	f := &failure{Code: e.Code, Message: e.Message}
	var d *deploymentError
	if errors.As(err, &d) {
		f.Details = d.details
	}
	return f
}

// begin runs a type's Work after its PUT was committed.
func (t *Type[P]) begin(ctx context.Context, call *Call, out, old *Resource[P]) (any, error) {
	id, err := t.api.startWork(ctx, call, func(ctx context.Context) (any, error) {
		r := out.clone()
		err := t.hooks.Work(ctx, r, old)
		if r.State = StateSucceeded; err != nil {
			r.State = StateFailed
		}
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		defer cancel()
		werr := t.api.cfg.Store.Write(wctx, func(tx *store.Tx) error {
			if cur, there, err := tx.Resource(r.ID); err != nil || !there || cur.ETag != out.ETag {
				return err // somebody wrote after us: theirs stands
			}
			saved := r.clone()
			return t.Write(tx, saved)
		})
		return nil, errors.Join(err, werr)
	})
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if old == nil {
		status = http.StatusCreated
	}
	if t.hooks.PutCreated == http.StatusAccepted {
		status = http.StatusAccepted
	}
	reply, err := t.reply(ctx, call, out, status)
	if err != nil {
		return nil, err
	}
	for k, v := range t.api.pollHeader(call, id) {
		reply.Header[k] = v
	}
	return reply, nil
}

// ended replies with an operation that has nothing left to do.
func (t *Type[P]) ended(ctx context.Context, call *Call, out *Resource[P], status int) (any, error) {
	reply, err := t.reply(ctx, call, out, status)
	if err != nil {
		return nil, err
	}
	id, err := t.api.startWork(ctx, call, func(context.Context) (any, error) { return nil, nil })
	if err != nil {
		return reply, nil // the resource is written: the operation is for some clients' eyes only
	}
	for k, v := range t.api.pollHeader(call, id) {
		reply.Header[k] = v
	}
	return reply, nil
}

// pollHeader names both places to ask: the status, and the result.
func (a *API) pollHeader(call *Call, id az.ID) http.Header {
	version := call.Version
	if version == "" {
		version = "2021-04-01"
	}
	at := func(word string) string {
		return call.BaseURL + a.subscription().Child("providers", "Hawser.Resources", word, id.Name()).String() + "?api-version=" + version
	}
	h := http.Header{}
	h.Set("Azure-AsyncOperation", at("operationStatuses"))
	h.Set("Location", at("operationResults"))
	h.Set("Retry-After", pollAfter)
	return h
}

// operation reads one for whoever may ask. To everybody else one that exists
// and one that does not look alike.
func (a *API) operation(ctx context.Context, call *Call) (*operation, az.ID, error) {
	id := a.subscription().Child("providers", "Hawser.Resources", "operations", strings.ToLower(call.Param("id")))
	row, ok, err := a.cfg.Store.Resource(ctx, id)
	if err != nil {
		return nil, id, err
	}
	var op operation
	if ok {
		if err := json.Unmarshal(row.Body, &op); err != nil {
			return nil, id, az.Errorf(az.Internal, "", "").Because(err)
		}
	}
	if ok && op.Caller == call.Caller.ObjectID {
		err = a.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: call.Caller, Action: actionOperationRead.Name,
			Where: id.String(), Outcome: guard.Allowed, Reason: "the caller began the operation"})
	} else {
		err = call.Check(ctx, actionOperationRead, a.subscription())
	}
	if err != nil {
		return nil, id, err
	}
	if !ok {
		return nil, id, az.Errorf(az.NotFound, "OperationNotFound", "There is no such operation, or it ended more than a day ago.")
	}
	if op.Status == stateInProgress && a.now().Sub(op.Started.Time()) > operationTime+requestTime {
		op.Status = StateFailed
		op.Error = &failure{Code: "OperationTimedOut", Message: "The operation did not end in time; look at the resource and repeat the request."}
	}
	return &op, id, nil
}

// operationStatus answers what Azure-AsyncOperation points to.
func (a *API) operationStatus(ctx context.Context, call *Call) (any, error) {
	op, id, err := a.operation(ctx, call)
	if err != nil {
		return nil, err
	}
	v := map[string]any{"id": call.path, "name": id.Name(), "status": op.Status, "startTime": op.Started.Time().Format(time.RFC3339)}
	h := http.Header{}
	if op.Ended != 0 {
		v["endTime"] = op.Ended.Time().Format(time.RFC3339)
	} else {
		h.Set("Retry-After", pollAfter)
	}
	if op.Error != nil {
		v["error"] = op.Error
	}
	if op.Result != nil {
		v["properties"] = op.Result
	}
	return &rest.Reply{Status: http.StatusOK, Header: h, Body: v}, nil
}

// operationResult answers what Location points to.
func (a *API) operationResult(ctx context.Context, call *Call) (any, error) {
	op, id, err := a.operation(ctx, call)
	switch {
	case err != nil:
		return nil, err
	case op.Status == stateInProgress:
		return &rest.Reply{Status: http.StatusAccepted, Header: a.pollHeader(call, id)}, nil
	case op.Error != nil:
		return nil, az.Errorf(az.Conflict, op.Error.Code, "%s", op.Error.Message)
	case op.Result != nil:
		return op.Result, nil
	}
	return nil, nil
}
