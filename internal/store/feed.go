package store

import (
	"context"
	"database/sql"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

// The topics of the change feed; a Change's Key says which row.
const (
	TopicResource   = "resource"   // key: the resource's folded id
	TopicObject     = "object"     // key: the object's id
	TopicMember     = "member"     // key: group id "/" member id
	TopicCredential = "credential" // key: owner "/" credential id
	TopicKeys       = "keys"       // key: a signing key's kid
	TopicMeta       = "meta"       // key: the meta key
	TopicSecret     = "secret"     // key: folded vault id "/secrets/" folded name
	TopicReset      = "reset"      // changes were missed: forget everything
)

// Change is one entry of the feed.
type Change struct {
	Seq        int64
	Topic, Key string
}

const (
	// pollInterval is how often a plane asks PostgreSQL for changes even if
	// no bell rang: a quarter of the second within which a revocation must
	// take effect.
	pollInterval = 250 * time.Millisecond
	// keepChanges is how long the feed remembers. A plane that was away for
	// longer forgets all it had cached.
	keepChanges = time.Hour
	// pruneEvery is how often old changes are deleted.
	pruneEvery = 10 * time.Minute
)

// feed follows the sequence of changes and tells the listeners in order.
type feed struct {
	s       *Store
	applied atomic.Int64 // newest change that every listener has seen
	asked   atomic.Int64 // when the newest answered question was sent, microseconds of the real clock

	mu        sync.Mutex // guards listeners and serialises apply; held while listeners run
	listeners []func([]Change)

	askMu sync.Mutex // guards next
	next  *ask       // the question that callers may still join
	turn  chan struct{}
}

// ask is one question "is there anything newer?", shared by its callers.
type ask struct {
	done chan struct{}
	err  error
}

func newFeed(s *Store) *feed { return &feed{s: s, turn: make(chan struct{}, 1)} }

// Listen calls fn with every batch of changes from now on, in order, one batch
// at a time, before the Write that made them returns. fn must be quick and
// must not write to the store.
func (s *Store) Listen(fn func([]Change)) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.listeners = append(s.feed.listeners, fn)
}

// Seq is the number of the newest change that this plane's caches have seen.
func (s *Store) Seq() int64 { return s.feed.applied.Load() }

// Confirm returns once this plane's caches have seen every change that was
// committed anywhere before the call. With SQLite that is always so and costs
// nothing; with PostgreSQL it is one small query, which all callers of the
// moment share. An error means caches must not be trusted.
func (s *Store) Confirm(ctx context.Context) error {
	if !s.postgres {
		return nil
	}
	return s.feed.confirm(ctx)
}

// freshFor is how long a confirmation lets caches be used without another:
// a revocation must take effect within a second on every plane.
const freshFor = time.Second

// Fresh is Confirm for work that goes on after its request was confirmed: it
// asks only if the last answer is older than a second.
func (s *Store) Fresh(ctx context.Context) error {
	if !s.postgres || time.Now().UnixMicro()-s.feed.asked.Load() < freshFor.Microseconds() {
		return nil
	}
	return s.feed.confirm(ctx)
}

func (f *feed) confirm(ctx context.Context) error {
	f.askMu.Lock()
	a := f.next
	lead := a == nil
	if lead {
		a = &ask{done: make(chan struct{})}
		f.next = a
	}
	f.askMu.Unlock()
	if lead {
		go f.answer(a)
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return fault(ctx.Err())
	}
}

// answer asks the store once for all who joined. Those who come after the
// question was sent must not join it: they get the next one.
func (f *feed) answer(a *ask) {
	f.turn <- struct{}{} // one question at a time, so that the next one gathers callers
	f.askMu.Lock()
	f.next = nil
	f.askMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	sent := time.Now()
	if a.err = f.catchUp(ctx); a.err == nil {
		f.asked.Store(sent.UnixMicro())
	}
	<-f.turn
	close(a.done)
}

// begin sets the starting point.
func (f *feed) begin(ctx context.Context) error {
	var seq int64
	_, err := f.s.row(ctx, `select seq from feed where id = 1`, nil, &seq)
	f.applied.Store(seq)
	return err
}

// committed is called by the writer after a commit.
func (f *feed) committed(ctx context.Context, first int64, changes []Change) {
	if len(changes) == 0 {
		return
	}
	f.mu.Lock()
	if f.applied.Load() == first-1 {
		for i := range changes {
			changes[i].Seq = first + int64(i)
		}
		f.apply(changes)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	// Another plane wrote in between. The rows are durable either way; if the
	// store goes away just now, Confirm keeps the caches from being used.
	if err := f.catchUp(ctx); err != nil {
		f.s.log.Warn("store: changes could not be read after a write", "error", err)
	}
}

// apply tells the listeners; mu is held.
func (f *feed) apply(changes []Change) {
	for _, fn := range f.listeners {
		fn(changes)
	}
	f.applied.Store(changes[len(changes)-1].Seq)
}

// catchUp reads and applies what is newer than what was applied.
func (f *feed) catchUp(ctx context.Context) error {
	var newest int64
	if _, err := f.s.row(ctx, `select seq from feed where id = 1`, nil, &newest); err != nil {
		return err
	}
	if newest <= f.applied.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from := f.applied.Load()
	var changes []Change
	err := f.s.rows(ctx, `select seq, topic, key from changes where seq > $1 order by seq`, []any{from},
		func(r *sql.Rows) error {
			var c Change
			changes = append(changes, c)
			return r.Scan(&changes[len(changes)-1].Seq, &changes[len(changes)-1].Topic, &changes[len(changes)-1].Key)
		})
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	if changes[0].Seq != from+1 {
		changes = append([]Change{{Seq: from, Topic: TopicReset}}, changes...)
	}
	f.apply(changes)
	return nil
}

// follow keeps this plane in step with others: PostgreSQL's NOTIFY is the
// bell, the sequence is the truth, and a poll stands in for a lost bell.
func (f *feed) follow(ctx context.Context) {
	bell := make(chan struct{}, 1)
	var bells sync.WaitGroup
	bells.Go(func() { f.listenForBell(ctx, bell) })
	defer bells.Wait()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	lastPrune := f.s.clock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-bell:
		case <-tick.C:
		}
		if err := f.confirm(ctx); err != nil && ctx.Err() == nil {
			f.s.log.Warn("store: the change feed cannot be read", "error", err)
		}
		if now := f.s.clock(); now.Sub(lastPrune) > pruneEvery {
			lastPrune = now
			f.prune(ctx, now)
		}
	}
}

func (f *feed) listenForBell(ctx context.Context, bell chan<- struct{}) {
	for ctx.Err() == nil {
		if err := f.listenOnce(ctx, bell); err != nil && ctx.Err() == nil {
			f.s.log.Debug("store: listening for changes was interrupted", "error", err)
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
			}
		}
	}
}

func (f *feed) listenOnce(ctx context.Context, bell chan<- struct{}) error {
	conn, err := pgx.Connect(ctx, f.s.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `listen hawser_feed`); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case bell <- struct{}{}:
		default:
		}
	}
}

// prune deletes old changes. It always leaves the newest one.
func (f *feed) prune(ctx context.Context, now time.Time) {
	old := az.MicrosOf(now.Add(-keepChanges))
	err := f.s.Write(ctx, func(tx *Tx) error {
		_, err := tx.exec(`delete from changes where at < $1 and seq < $2`, int64(old), f.applied.Load())
		return err
	})
	if err != nil && ctx.Err() == nil {
		f.s.log.Warn("store: old changes could not be deleted", "error", err)
	}
}

// never is a time no clock reaches, for "does not end".
const never = az.Micros(math.MaxInt64)
