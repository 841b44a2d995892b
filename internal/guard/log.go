package guard

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Event kinds.
const (
	EventDecision = "decision" // a Check
	EventSignIn   = "signin"   // a token was issued or refused
	EventToken    = "token"    // a token was presented and refused
	EventSession  = "session"  // a database session began or ended
	EventSystem   = "system"   // the plane itself: started, keys rotated
)

// Outcomes.
const (
	Allowed = "allowed"
	Refused = "refused"
	Ended   = "ended"
)

// Event is what a record says: who did what, where, by which assignment, with
// what outcome. It must hold no secret.
type Event struct {
	Kind        string
	Caller      az.Principal
	Action      string
	Where       string
	Outcome     string
	Assignment  string
	Role        string
	Reason      string
	Correlation string
	Peer        string // network address of the caller, where known
	Detail      string
}

// Record is one line of the log.
type Record struct {
	Seq         int64  `json:"seq"`
	At          string `json:"at"` // RFC 3339 with microseconds, UTC
	Plane       string `json:"plane"`
	Kind        string `json:"kind"`
	Who         string `json:"who,omitempty"` // object id
	Name        string `json:"name,omitempty"`
	App         string `json:"app,omitempty"`
	Action      string `json:"action"`
	Where       string `json:"where,omitempty"`
	Outcome     string `json:"outcome"`
	Assignment  string `json:"assignment,omitempty"`
	Role        string `json:"role,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Correlation string `json:"correlation,omitempty"`
	Peer        string `json:"peer,omitempty"`
	Detail      string `json:"detail,omitempty"`
	MAC         string `json:"mac"`
}

const (
	// segmentSize is where a new file is begun.
	segmentSize = 64 << 20
	// flushEvery bounds what a power cut can take. A killed process loses
	// nothing: each record is with the kernel before its request is answered.
	flushEvery = 100 * time.Millisecond
	// checkpointEvery is how often the chain's head is noted in the store, so
	// that a log cut off at its end is found.
	checkpointEvery = time.Second
	// maxRecord bounds a line in bytes. Source: ids are at most 2,048 bytes
	// (az.MaxIDLength) and a record has two, JSON may double them.
	maxRecord = 32 << 10
)

// Checkpoint keeps and returns the head of the chain outside the log's file.
type Checkpoint struct {
	Save func(ctx context.Context, head []byte) error
	Load func(ctx context.Context) (head []byte, ok bool, err error)
}

// LogConfig says where the log lives and what chains it.
type LogConfig struct {
	Dir        string // created if it is not there
	Plane      string // the plane's id
	Key        []byte // of the chain, from the sealer
	Clock      az.Clock
	Logger     *slog.Logger
	Checkpoint Checkpoint
}

// Log is the audit log of one plane: lines of JSON in files that are only
// appended to, each line with a MAC over itself and the MAC before it.
type Log struct {
	cfg LogConfig

	mu    sync.Mutex // guards everything below
	f     *os.File
	size  int64
	seg   int
	seq   int64
	prev  [sha256.Size]byte
	mac   hash.Hash
	buf   []byte
	dirty bool // written since the last flush

	saved int64 // seq of the last checkpoint; only the flusher touches it
	stop  chan struct{}
	done  sync.WaitGroup
}

// OpenLog opens the log, checks its newest file, cuts off a line that a killed
// process left unfinished (it was never answered for), and starts the
// flusher, which Close stops.
func OpenLog(ctx context.Context, cfg LogConfig) (*Log, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open the audit log: %w", err)
	}
	l := &Log{cfg: cfg, mac: hmac.New(sha256.New, cfg.Key), stop: make(chan struct{}), seg: 1}
	segs, err := l.segments()
	if err != nil {
		return nil, err
	}
	if len(segs) > 0 {
		if l.seg, err = l.resume(segs); err != nil {
			return nil, fmt.Errorf("cannot resume the audit log: %w", err)
		}
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("cannot open the audit log: %w", err)
	}
	if err := l.checkHead(ctx); err != nil {
		cfg.Logger.Error("guard: the audit log does not continue where it was left; run hawser audit --verify", "error", err)
	}
	l.done.Go(l.flusher)
	return l, nil
}

// Close flushes, notes the head and closes the file.
func (l *Log) Close() error {
	close(l.stop)
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// Seq is the number of the newest record.
func (l *Log) Seq() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

func (l *Log) segments() ([]string, error) {
	return filepath.Glob(filepath.Join(l.cfg.Dir, "audit-*.jsonl"))
}

func (l *Log) path(seg int) string {
	return filepath.Join(l.cfg.Dir, fmt.Sprintf("audit-%06d.jsonl", seg))
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path(l.seg), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	l.size, err = f.Seek(0, io.SeekEnd)
	l.f = f
	return err
}

// resume finds the head: the last whole line of the newest file.
func (l *Log) resume(segs []string) (seg int, err error) {
	for i := len(segs) - 1; i >= 0; i-- {
		last, end, err := lastLine(segs[i])
		if err != nil {
			return 0, err
		}
		if err := os.Truncate(segs[i], end); err != nil {
			return 0, err
		}
		if last == nil {
			continue
		}
		var r Record
		if err := json.Unmarshal(last, &r); err != nil {
			return 0, fmt.Errorf("the last line of %s is no record", filepath.Base(segs[i]))
		}
		mac, err := hex.DecodeString(r.MAC)
		if err != nil || len(mac) != sha256.Size {
			return 0, fmt.Errorf("the last line of %s has no MAC", filepath.Base(segs[i]))
		}
		l.seq = r.Seq
		copy(l.prev[:], mac)
		break
	}
	_, err = fmt.Sscanf(filepath.Base(segs[len(segs)-1]), "audit-%06d.jsonl", &seg)
	return seg, err
}

// lastLine returns the last whole line and the offset where it ends.
func lastLine(path string) (line []byte, end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	from := max(0, size-2*maxRecord)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return nil, 0, err
	}
	nl := bytes.LastIndexByte(tail, '\n')
	if nl < 0 {
		return nil, from, nil
	}
	start := bytes.LastIndexByte(tail[:nl], '\n') + 1
	return tail[start:nl], from + int64(nl) + 1, nil
}

// Append writes one record. When it returns nil the kernel has the record, so
// that a killed plane does not lose it.
func (l *Log) Append(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= segmentSize {
		if err := l.nextSegment(); err != nil {
			return err
		}
	}
	b := appendRecord(l.buf[:0], l.seq+1, l.cfg.Clock(), l.cfg.Plane, &e)
	sum := l.chain(b)
	b = append(b, `,"mac":"`...)
	b = hex.AppendEncode(b, sum[:])
	b = append(b, '"', '}', '\n')
	l.buf = b
	if _, err := l.f.WriteAt(b, l.size); err != nil {
		_ = l.f.Truncate(l.size) // half a line must not stay before the next
		return err
	}
	l.size += int64(len(b))
	l.seq++
	l.prev = sum
	l.dirty = true
	return nil
}

// chain is the MAC of a record's text, all before its mac field, and of the
// MAC before it; mu is held.
func (l *Log) chain(text []byte) (sum [sha256.Size]byte) {
	l.mac.Reset()
	l.mac.Write(l.prev[:])
	l.mac.Write(text)
	l.mac.Sum(sum[:0])
	return sum
}

func (l *Log) nextSegment() error {
	if err := l.f.Sync(); err != nil {
		return err
	}
	old := l.f
	l.seg++
	if err := l.open(); err != nil {
		l.seg--
		l.f = old
		return err
	}
	return old.Close()
}

// flusher carries many records to the disk with one flush, and notes the head
// of the chain in the store after it.
func (l *Log) flusher() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var lastNote time.Time
	for {
		stopping := false
		select {
		case <-tick.C:
		case <-l.stop:
			stopping = true
		}
		seq, head, err := l.flush()
		if err != nil {
			l.cfg.Logger.Error("guard: the audit log could not be flushed", "error", err)
		} else if seq > l.saved && (stopping || time.Since(lastNote) > checkpointEvery) {
			lastNote = time.Now()
			l.note(seq, head)
		}
		if stopping {
			return
		}
	}
}

func (l *Log) flush() (seq int64, head [sha256.Size]byte, err error) {
	l.mu.Lock()
	f, dirty := l.f, l.dirty
	seq, head = l.seq, l.prev
	l.dirty = false
	l.mu.Unlock()
	if !dirty {
		return seq, head, nil
	}
	err = f.Sync()
	if errors.Is(err, os.ErrClosed) { // a new segment began: it was synced then
		err = nil
	}
	return seq, head, err
}

type headNote struct {
	Seq int64  `json:"seq"`
	MAC string `json:"mac"`
}

func (l *Log) note(seq int64, head [sha256.Size]byte) {
	if l.cfg.Checkpoint.Save == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b, err := json.Marshal(headNote{seq, hex.EncodeToString(head[:])})
	if err == nil {
		err = l.cfg.Checkpoint.Save(ctx, b)
	}
	if err != nil {
		l.cfg.Logger.Warn("guard: the audit log's head could not be noted in the store", "error", err)
		return
	}
	l.saved = seq
}

func (l *Log) loadHead(ctx context.Context) (headNote, error) {
	var h headNote
	if l.cfg.Checkpoint.Load == nil {
		return h, nil
	}
	b, ok, err := l.cfg.Checkpoint.Load(ctx)
	if err != nil || !ok {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// checkHead finds at start a log that was cut off at its end. The next record
// then takes the number after the one that was noted: the gap stays in the log
// for Verify to find, also when newer heads have been noted.
func (l *Log) checkHead(ctx context.Context) error {
	h, err := l.loadHead(ctx)
	if err != nil {
		return err
	}
	if was := l.seq; h.Seq > was {
		l.seq = h.Seq
		return fmt.Errorf("record %d was noted, but the log ends at %d", h.Seq, was)
	}
	return nil
}

// Verification is the result of Verify.
type Verification struct {
	Records int64  `json:"records"`
	Last    string `json:"last,omitempty"`  // time of the newest record
	Fault   string `json:"fault,omitempty"` // empty: the chain is whole
}

// Verify walks the whole chain and compares its head with the one noted in
// the store. It finds a changed, removed, added or moved record, and a log
// that was cut off.
func (l *Log) Verify(ctx context.Context) (Verification, error) {
	var v Verification
	note, err := l.loadHead(ctx)
	if err != nil {
		return v, err
	}
	head := l.Seq()
	var prev [sha256.Size]byte
	m := hmac.New(sha256.New, l.cfg.Key)
	err = l.Each(ctx, 0, func(line []byte, r Record) bool {
		if r.Seq > head {
			return false // appended while we read
		}
		at := bytes.LastIndex(line, []byte(`,"mac":"`))
		if r.Seq != v.Records+1 || at < 0 {
			v.Fault = fmt.Sprintf("record %d stands where record %d is expected", r.Seq, v.Records+1)
			return false
		}
		m.Reset()
		m.Write(prev[:])
		m.Write(line[:at])
		m.Sum(prev[:0])
		if want := hex.EncodeToString(prev[:]); !hmac.Equal([]byte(want), []byte(r.MAC)) {
			v.Fault = fmt.Sprintf("record %d or the one before it was changed", r.Seq)
			return false
		}
		if r.Seq == note.Seq && r.MAC != note.MAC {
			v.Fault = fmt.Sprintf("record %d is not the one that was noted in the store", r.Seq)
			return false
		}
		v.Records, v.Last = r.Seq, r.At
		return true
	})
	if ctx.Err() != nil {
		return v, az.Errorf(az.Unavailable, "ServiceUnavailable", "The log could not be read to its end in time; this says nothing about it. Try again.").Because(ctx.Err())
	}
	if err != nil && v.Fault == "" {
		v.Fault = err.Error()
	}
	if v.Fault == "" && v.Records < max(note.Seq, head) {
		v.Fault = fmt.Sprintf("the log ends at record %d, but %d were written", v.Records, max(note.Seq, head))
	}
	return v, nil
}

// Each calls fn with the records after a sequence number, oldest first, until
// fn returns false. The line is valid only during the call.
func (l *Log) Each(ctx context.Context, after int64, fn func(line []byte, r Record) bool) error {
	segs, err := l.segments()
	if err != nil {
		return err
	}
	for _, path := range segs {
		more, err := eachIn(ctx, path, after, fn)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func eachIn(ctx context.Context, path string, after int64, fn func([]byte, Record) bool) (more bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 0, 4096), maxRecord)
	n := 0
	for sc.Scan() {
		n++
		var r Record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return false, fmt.Errorf("line %d of %s is no record", n, filepath.Base(path))
		}
		if r.Seq <= after {
			continue
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if !fn(sc.Bytes(), r) {
			return false, nil
		}
	}
	return true, sc.Err()
}
