package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hawser/hawser/internal/az"
)

const (
	// maxBatch is how many writes one transaction may carry: enough that one
	// flush is shared by all callers of a busy plane, few enough that a
	// failing one costs little when the rest are run again.
	maxBatch = 256
	// writeTimeout bounds one batch from begin to commit.
	writeTimeout = 10 * time.Second
)

// writer owns the one writing connection. Only its goroutine touches conn and
// stmts; callers reach it through queue.
type writer struct {
	s     *Store
	db    *sql.DB
	queue chan *write
	gone  chan struct{} // closed when loop has ended
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

type write struct {
	ctx context.Context
	fn  func(*Tx) error
	err chan error // buffered, so that the writer never waits for a caller
}

func newWriter(s *Store, db *sql.DB) *writer {
	return &writer{s: s, db: db, queue: make(chan *write, maxBatch), gone: make(chan struct{})}
}

// Tx is a transaction inside Write. It must not outlive the function.
type Tx struct {
	ctx     context.Context
	w       *writer
	changes []Change
	dirty   bool
	now     az.Micros
	alive   int64 // serial of the vault that was last found alive in this transaction
}

// Now is the time of the transaction.
func (tx *Tx) Now() az.Micros { return tx.now }

// Write runs fn in a transaction and returns after it is durable, or with fn's
// error and nothing written. Several callers' functions share one transaction,
// and fn may be run a second time alone if another of them fails: it must not
// change anything but the store and its own variables. fn must not block.
//
// When Write returns, the caches of this plane have seen the changes.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	w := &write{ctx: ctx, fn: fn, err: make(chan error, 1)}
	select {
	case s.writer.queue <- w:
	case <-s.writer.gone:
		return fault(errClosed)
	case <-ctx.Done():
		return fault(ctx.Err())
	}
	// Once queued the outcome is not ours to leave: a caller that goes away
	// must not be told "failed" for what was written.
	select {
	case err := <-w.err:
		return err
	case <-s.writer.gone:
		select {
		case err := <-w.err:
			return err
		default:
			return fault(errClosed)
		}
	case <-time.After(3 * writeTimeout):
		return fault(errors.New("the writer does not answer"))
	}
}

var errClosed = errors.New("the store is closed")

func (w *writer) loop(ctx context.Context) {
	defer close(w.gone)
	defer w.drop()
	for {
		select {
		case first := <-w.queue:
			w.commitAll(w.drain(first))
		case <-ctx.Done():
			for {
				select {
				case first := <-w.queue:
					w.commitAll(w.drain(first))
				default:
					return
				}
			}
		}
	}
}

func (w *writer) drain(first *write) []*write {
	batch := []*write{first}
	for len(batch) < maxBatch {
		select {
		case next := <-w.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// commitAll writes a batch in one transaction; if one of it spoils the
// transaction, each is written alone.
func (w *writer) commitAll(batch []*write) {
	errs, ok := w.commit(batch)
	if !ok && len(batch) > 1 {
		for _, one := range batch {
			e, _ := w.commit([]*write{one})
			one.err <- e[0]
		}
		return
	}
	for i, one := range batch {
		one.err <- errs[i]
	}
}

// commit runs a batch in one transaction. ok is false if nothing was written
// because one of the batch failed after it had begun to write.
func (w *writer) commit(batch []*write) (errs []error, ok bool) {
	ctx, cancel := w.deadline()
	defer cancel()
	errs = make([]error, len(batch))
	tx := &Tx{ctx: ctx, w: w, now: az.MicrosOf(w.s.clock())}
	if err := w.begin(ctx); err != nil {
		return fillErrors(errs, w.broken(err)), true
	}
	for i, one := range batch {
		if one.ctx.Err() != nil {
			errs[i] = fault(one.ctx.Err())
			continue
		}
		tx.dirty = false
		before := len(tx.changes)
		if err := call(one.fn, tx); err != nil {
			errs[i] = fault(err)
			if tx.dirty || az.KindOf(errs[i]) == az.Unavailable {
				w.rollback()
				return errs, false
			}
			tx.changes = tx.changes[:before]
		}
	}
	seq, err := w.finish(tx)
	if err != nil {
		w.rollback()
		_ = w.broken(err)
		return fillErrors(errs, outcomeUnknown(err)), true
	}
	w.s.feed.committed(ctx, seq, tx.changes)
	return errs, true
}

// deadline bounds a batch on PostgreSQL. SQLite's statements read and write
// single rows of a file that no other process has open, so there is nothing to
// wait for but the disk, which no context interrupts; and its driver starts a
// goroutine for each statement whose context can end.
func (w *writer) deadline() (context.Context, context.CancelFunc) {
	if !w.s.postgres {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), writeTimeout)
}

// call runs a caller's function. A panic in it is that caller's failure and not
// the end of the plane: it runs on the writer's goroutine, where no handler
// catches it. What it wrote until then is undone with the transaction.
func call(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			tx.dirty = true
			tx.w.s.log.Error("store: a function inside a write panicked", "panic", p, "stack", string(debug.Stack()))
			err = az.Errorf(az.Internal, "", "").Because(fmt.Errorf("a function inside a write panicked: %v", p))
		}
	}()
	return fn(tx)
}

func fillErrors(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// begin opens the transaction and locks the feed's row, so that write
// transactions of all planes come one after the other and a function sees
// everything that was committed before it.
func (w *writer) begin(ctx context.Context) error {
	if w.conn == nil {
		conn, err := w.db.Conn(ctx)
		if err != nil {
			return err
		}
		w.conn, w.stmts = conn, map[string]*sql.Stmt{}
	}
	if !w.s.postgres {
		_, err := w.exec(ctx, `begin immediate`)
		return err
	}
	// Both in one message, since each is a way there and back.
	_, err := w.conn.ExecContext(ctx, `begin; select seq from feed where id = 1 for update`)
	return err
}

// finish gives the changes their sequence numbers, stores them and commits.
func (w *writer) finish(tx *Tx) (first int64, err error) {
	if w.s.postgres && len(tx.changes) > 0 {
		return w.finishAtOnce(tx)
	}
	if first, err = w.number(tx); err == nil {
		_, err = w.exec(tx.ctx, `commit`)
	}
	return first, err
}

// number gives the changes their sequence numbers and stores them.
func (w *writer) number(tx *Tx) (first int64, err error) {
	if len(tx.changes) == 0 {
		return 0, nil
	}
	n := int64(len(tx.changes))
	st, err := w.stmt(tx.ctx, `update feed set seq = seq + $1 where id = 1 returning seq`)
	if err != nil {
		return 0, err
	}
	var last int64
	if err := st.QueryRowContext(tx.ctx, n).Scan(&last); err != nil {
		return 0, err
	}
	first = last - n + 1
	for i, c := range tx.changes {
		if _, err := w.exec(tx.ctx, `insert into changes (seq, topic, key, at) values ($1, $2, $3, $4)`,
			first+int64(i), c.Topic, c.Key, int64(tx.now)); err != nil {
			return 0, err
		}
	}
	return first, nil
}

const numberAtOnce = `with f as (update feed set seq = seq + $1 where id = 1 returning seq),
	c as (insert into changes (seq, topic, key, at)
		select f.seq - $1 + u.i, u.topic, u.key, $2 from f, unnest($3::text[], $4::text[]) with ordinality as u(topic, key, i))
	select seq, pg_notify('hawser_feed', '')::text from f`

// finishAtOnce is finish for PostgreSQL, where a statement costs a way there
// and back: the numbers, the rows, the bell and the commit in one. If the first
// statement fails, PostgreSQL does not run the second.
func (w *writer) finishAtOnce(tx *Tx) (first int64, err error) {
	n := int64(len(tx.changes))
	topics, keys := make([]string, n), make([]string, n)
	for i, c := range tx.changes {
		topics[i], keys[i] = c.Topic, c.Key
	}
	var last int64
	var bell string
	var b pgx.Batch
	b.Queue(numberAtOnce, n, int64(tx.now), topics, keys).QueryRow(func(r pgx.Row) error { return r.Scan(&last, &bell) })
	b.Queue(`commit`)
	err = w.conn.Raw(func(c any) error { return c.(*stdlib.Conn).Conn().SendBatch(tx.ctx, &b).Close() })
	return last - n + 1, err
}

func (w *writer) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if w.conn == nil {
		return
	}
	if _, err := w.conn.ExecContext(ctx, `rollback`); err != nil {
		w.drop()
	}
}

// outcomeUnknown words a commit without an answer: the connection may have been
// lost on the way there or on the way back.
func outcomeUnknown(err error) error {
	return az.Errorf(az.Unavailable, "ServiceUnavailable",
		"The store was lost while it wrote; the change may or may not have been made. Read it again before you repeat it.").Because(err)
}

// broken drops a connection that may be beyond use and words the error.
func (w *writer) broken(err error) error {
	w.s.log.Warn("store: a write failed", "error", err)
	w.drop()
	return fault(err)
}

func (w *writer) drop() {
	if w.conn == nil {
		return
	}
	for _, st := range w.stmts {
		_ = st.Close()
	}
	// Discard rather than return to the pool: it may be half broken, or still
	// be inside a transaction that could not be rolled back.
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = w.conn.Close()
	w.conn, w.stmts = nil, nil
}

func (w *writer) stmt(ctx context.Context, q string) (*sql.Stmt, error) {
	if st, ok := w.stmts[q]; ok {
		return st, nil
	}
	st, err := w.conn.PrepareContext(ctx, q)
	if err == nil {
		w.stmts[q] = st
	}
	return st, err
}

func (w *writer) exec(ctx context.Context, q string, args ...any) (int64, error) {
	st, err := w.stmt(ctx, q)
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// exec writes and marks the transaction as written to.
func (tx *Tx) exec(q string, args ...any) (affected int64, err error) {
	tx.dirty = true
	n, err := tx.w.exec(tx.ctx, q, args...)
	return n, written(err)
}

// written words what a statement that writes ended with.
func written(err error) error {
	if err != nil && IsDuplicate(err) {
		return az.Errorf(az.Conflict, "Conflict", "Something with this name or id exists already.").Because(err)
	}
	return fault(err)
}

// statement is one of several that are written together.
type statement struct {
	q    string
	args []any
}

// execAll is exec for statements none of which needs the outcome of another:
// on PostgreSQL they go there together. What comes after a failed one is not
// run.
func (tx *Tx) execAll(all ...statement) error {
	if !tx.w.s.postgres {
		for _, s := range all {
			if _, err := tx.exec(s.q, s.args...); err != nil {
				return err
			}
		}
		return nil
	}
	tx.dirty = true
	var b pgx.Batch
	for _, s := range all {
		b.Queue(s.q, s.args...)
	}
	return written(tx.w.conn.Raw(func(c any) error { return c.(*stdlib.Conn).Conn().SendBatch(tx.ctx, &b).Close() }))
}

func (tx *Tx) row(q string, args []any, dest ...any) (bool, error) {
	st, err := tx.w.stmt(tx.ctx, q)
	if err != nil {
		return false, tx.spoilt(fault(err))
	}
	ok, err := scanned(st.QueryRowContext(tx.ctx, args...).Scan(dest...))
	return ok, tx.spoilt(err)
}

func (tx *Tx) rows(q string, args []any, each func(*sql.Rows) error) error {
	st, err := tx.w.stmt(tx.ctx, q)
	if err != nil {
		return tx.spoilt(fault(err))
	}
	rs, err := st.QueryContext(tx.ctx, args...)
	return tx.spoilt(eachRow(rs, err, each))
}

// spoilt marks the transaction when a read failed: PostgreSQL does nothing
// more in it.
func (tx *Tx) spoilt(err error) error {
	tx.dirty = tx.dirty || err != nil
	return err
}

// changed notes a change for the feed.
func (tx *Tx) changed(topic, key string) {
	tx.dirty = true
	tx.changes = append(tx.changes, Change{Topic: topic, Key: key})
}
