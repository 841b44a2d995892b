package pg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// FuzzStartup checks that whatever passes is one user, one database, allowed
// settings, and would be read the same by PostgreSQL's own rules.
func FuzzStartup(f *testing.F) {
	for _, s := range []string{
		"user\x00app\x00database\x00db\x00\x00", "user\x00app@s1\x00options\x00-c search_path=a\\ b -cwork_mem=1MB --timezone=UTC endpoint=s1\x00\x00",
		"user\x00a\x00_pq_.x\x001\x00\x00", "user\x00a\x00options\x00-c role=b\x00\x00", "user\x00a\x00options\x00\\", "user\x00a\x00replication\x00false\x00\x00", "\x00", "",
	} {
		f.Add(append([]byte{0, 3, 0, 0}, s...), "postgres.test")
	}
	f.Fuzz(func(t *testing.T, body []byte, domain string) {
		s, err := parseStartup(body, domain)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || len(r.encode()) > 1<<10 {
				t.Fatalf("not a refusal of modest size: %v", err)
			}
			return
		}
		if s.user == "" || s.database == "" || s.server != "" && !gateway.IsServerName(s.server) {
			t.Fatalf("let in %+v", s)
		}
		for name, value := range s.params {
			if denied[name] || !isSettingName(name) || strings.ContainsRune(value, 0) || name != strings.ToLower(name) {
				t.Fatalf("let in setting %q = %q", name, value)
			}
		}
		if bytes.Count(body, []byte("user\x00")) > 1 && !bytes.Contains(body, []byte("database\x00")) && s.database == "" {
			t.Fatal("no database")
		}
	})
}

// FuzzBearer checks the reader of SASLInitialResponse.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{"n,,\x01auth=Bearer abc\x01\x01", "y,,\x01host=x\x01auth=bearer a.b-c_~+/=\x01\x01", "n,,\x01auth=\x01\x01", "p=tls,,\x01auth=Bearer a\x01\x01", "n,a=other,\x01auth=Bearer a\x01\x01", "n,,\x01\x01", ""} {
		b, _ := (&pgproto3.SASLInitialResponse{AuthMechanism: oauthBearer, Data: []byte(s)}).Encode(nil)
		f.Add(b[5:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := parseBearer(body)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) && !az.Is(err, az.Unauthorized) {
				t.Fatal(err)
			}
			return
		}
		if strings.ContainsFunc(token, notTokenByte) {
			t.Fatalf("let in %q", token)
		}
		if token != "" && !bytes.Contains(body, []byte(token+"\x01")) {
			t.Fatalf("made up %q", token)
		}
	})
}

// FuzzMessage checks that reading one message never reads more than it, or
// more than the limit.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("p\x00\x00\x00\x08abc\x00rest"), 64)
	f.Add([]byte("p\xff\xff\xff\xff"), 64)
	f.Add([]byte("p\x00\x00\x00\x00"), 0)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit &= maxPassword
		r := bytes.NewReader(b)
		body, err := readMessage(r, 'p', limit)
		if err != nil {
			return
		}
		if len(body) > limit || len(b)-r.Len() != 5+len(body) || !bytes.Equal(body, b[5:5+len(body)]) {
			t.Fatalf("read %d bytes for a body of %d", len(b)-r.Len(), len(body))
		}
		_, _ = readPassword(body, "app")
	})
}

type seen struct {
	Kind byte
	Body uint32
}

// walkAll walks a stream cut into chunks by the bytes of cuts.
func walkAll(stream, cuts []byte) (out []seen, border bool, err error) {
	var w walker
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if i < len(cuts) {
			n = min(n, 1+int(cuts[i]))
		}
		for at := 0; ; {
			kind, body, start, ok, err := w.next(stream[:n], at)
			if err != nil {
				return out, false, err
			}
			if !ok {
				break
			}
			out = append(out, seen{kind, body})
			at = start
		}
		stream = stream[n:]
	}
	return out, w.atBorder(), nil
}

// FuzzWalker checks that borders are found wherever the stream is cut.
func FuzzWalker(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x06a\x00S\x00\x00\x00\x04X\x00\x00\x00\x04"), []byte{0, 1, 2, 3})
	f.Add([]byte("D\x00\x00\x10\x00abc"), []byte{4, 4})
	f.Add([]byte("D\x00\x00\x00\x03"), []byte{})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		var want []seen
		var wantErr error
		rest := stream
		for len(rest) >= 5 {
			n := binary.BigEndian.Uint32(rest[1:])
			if n < 4 {
				wantErr = errTooShort
				break
			}
			want = append(want, seen{rest[0], n - 4})
			if uint64(n)+1 > uint64(len(rest)) {
				rest = []byte{0}
				break
			}
			rest = rest[n+1:]
		}
		got, border, err := walkAll(stream, cuts)
		if !errors.Is(err, wantErr) || !cmp.Equal(got, want) {
			t.Fatalf("%v, %v; want %v, %v", got, err, want, wantErr)
		}
		if err == nil && border != (len(rest) == 0) {
			t.Fatalf("border %v with %d bytes left", border, len(rest))
		}
	})
}

// FuzzSession feeds both hooks with anything in any chunks: no panic, and no
// more is passed on than came in.
func FuzzSession(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x06a\x00X\x00\x00\x00\x04"), []byte("Z\x00\x00\x00\x05IS\x00\x00\x00\x08a\x00b\x00"), byte(3))
	f.Add([]byte("X\x00\x00\x00\x04"), []byte("S\x00\x00\x00\x06a\x00Z\x00\x00\x00\x05"), byte(1))
	f.Add([]byte("X"), []byte("Z\x00\x00\x00\x04"), byte(200))
	f.Fuzz(func(t *testing.T, client, server []byte, size byte) {
		s := &session{b: &backend{status: encodeStatus(map[string]string{"a": "b", "c": ""})}}
		for c := range chunks(client, int(size)+1) {
			n, next := s.fromClient(c)
			if n < 0 || n > len(c) {
				t.Fatalf("pass %d of %d", n, len(c))
			}
			if next != 0 {
				break
			}
		}
		for c := range chunks(server, int(size)+1) {
			at, ok := s.fromBackend(c)
			if at < -1 || at > len(c) {
				t.Fatalf("border %d of %d", at, len(c))
			}
			if !ok {
				break
			}
		}
		for b := s.b.status; len(b) > 0; {
			if len(b) < 5 || uint64(binary.BigEndian.Uint32(b[1:]))+1 > uint64(len(b)) {
				t.Fatalf("status is broken: %q", s.b.status)
			}
			b = b[1+binary.BigEndian.Uint32(b[1:]):]
		}
	})
}

func chunks(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func BenchmarkWalkRows(b *testing.B) {
	var chunk []byte
	for range 300 {
		chunk, _ = (&pgproto3.DataRow{Values: [][]byte{make([]byte, 90)}}).Encode(chunk)
	}
	s := &session{b: &backend{}}
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, ok := s.fromBackend(chunk); !ok {
			b.Fatal("stopped")
		}
	}
}
