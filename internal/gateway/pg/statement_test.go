package pg

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
)

// readerConn is a connection that only reads.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func stream(t testing.TB, all ...pgproto3.FrontendMessage) (out []byte) {
	t.Helper()
	for _, m := range all {
		var err error
		if out, err = m.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// passes checks what becomes of a client's bytes, however they are cut.
func passes(t *testing.T, in, want []byte, ask func(context.Context, string) (string, bool)) {
	t.Helper()
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
		c := scribed(readerConn{Reader: r}, gateway.Grant{Statement: ask})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
}

// TestScribe: of an administrator's bytes only the queries that call the plane
// are changed.
func TestScribe(t *testing.T) {
	t.Parallel()
	long := "select pgaadauth_x('" + strings.Repeat("x", maxStatement) + "')"
	call := &pgproto3.Query{String: "select PGAADAUTH_x()"}
	drop := &pgproto3.Query{String: "DROP  role x"}
	others := []pgproto3.FrontendMessage{&pgproto3.Query{String: "select 1"}, &pgproto3.Parse{Query: "select 2"}, &pgproto3.Bind{}, &pgproto3.Close{ObjectType: 'S', Name: "x"}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "select pgaadauth_x($1)", ParameterOIDs: []uint32{25}}, &pgproto3.Parse{Query: long}, &pgproto3.Query{String: long},
		&pgproto3.CopyData{Data: bytes.Repeat([]byte("pgaadauth_"), 5000)}, &pgproto3.Query{String: "select pgaadauth_no()"}}
	answer := &pgproto3.Query{String: "answer"}
	in := append(stream(t, others...), stream(t, call, drop, call, &pgproto3.Terminate{})...)
	want := append(stream(t, others...), stream(t, answer, answer, answer, &pgproto3.Terminate{})...)
	passes(t, in, want, func(_ context.Context, sql string) (string, bool) {
		return "answer", sql == call.String || sql == drop.String
	})
	c := readerConn{Reader: bytes.NewReader(in)}
	if scribed(c, gateway.Grant{}) != net.Conn(c) {
		t.Error("a session that is no administrator's is read")
	}
}

// TestScribePrepared: a prepared call is done once, when it is prepared, and
// nobody is told that it was done twice.
func TestScribePrepared(t *testing.T) {
	t.Parallel()
	n := 0
	ask := func(_ context.Context, sql string) (string, bool) {
		n++
		return "answer", strings.HasSuffix(sql, "x()")
	}
	call := func(name string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: "select pgaadauth_x()"} }
	said := func(name string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: "answer"} }
	bind := func(name string) *pgproto3.Bind {
		return &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: name}
	}
	in := stream(t, call("a"), bind("a"), &pgproto3.Execute{}, &pgproto3.Sync{}, bind("a"), bind("other"), call(""), bind(""), call(""), bind(""), call("a"), bind("a"),
		&pgproto3.Close{ObjectType: 'P', Name: "a"}, bind("a"), &pgproto3.Close{ObjectType: 'S', Name: "a"}, bind("a"), &pgproto3.Parse{Query: "select 1"}, bind(""), bind(""))
	want := stream(t, said("a"), bind("a"), &pgproto3.Execute{}, &pgproto3.Sync{}, bind("a"+doneOnce), bind("other"), said(""), bind(""), said(""), bind(""), said("a"), bind("a"),
		&pgproto3.Close{ObjectType: 'P', Name: "a"}, bind("a"+doneOnce), &pgproto3.Close{ObjectType: 'S', Name: "a"}, bind("a"), &pgproto3.Parse{Query: "select 1"}, bind(""), bind(""))
	passes(t, in, want, ask)
	if n != 3*4 {
		t.Errorf("the plane was asked %d times", n)
	}
	var many []pgproto3.FrontendMessage
	for i := range 2 * maxAnswered {
		many = append(many, call(strings.Repeat("n", i+1)))
	}
	s := scribed(readerConn{Reader: bytes.NewReader(stream(t, many...))}, gateway.Grant{Statement: ask}).(*scribe)
	if _, err := io.Copy(io.Discard, s); err != nil || len(s.answered) != maxAnswered {
		t.Errorf("%d statements are remembered: %v", len(s.answered), err)
	}
}

// FuzzScribe: without an answer every byte passes as it came, but for an
// unfinished short message at the end; with answers nothing breaks.
func FuzzScribe(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x08abc\x00S\x00\x00\x00\x04"))
	f.Add([]byte("Q\x00\x00\x00\x00Q\xff\xff\xff\xff"))
	f.Add(stream(f, &pgproto3.Parse{Query: "select pgaadauth_x()"}, &pgproto3.Bind{}, &pgproto3.Bind{}, &pgproto3.Close{ObjectType: 'S'}))
	f.Add([]byte("P\x00\x00\x00\x12\x00pgaadauth_\x00\x00\x00C\x00\x00\x00\x05S"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := scribed(readerConn{Reader: iotest.HalfReader(bytes.NewReader(in))}, gateway.Grant{Statement: func(context.Context, string) (string, bool) { return "", false }})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(in, got) || len(in)-len(got) > maxStatement {
			t.Errorf("%q became %q: %v", in, got, err)
		}
		c = scribed(readerConn{Reader: iotest.HalfReader(bytes.NewReader(in))}, gateway.Grant{Statement: func(context.Context, string) (string, bool) { return "x", true }})
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
	})
}
