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

// TestScribe: of an administrator's bytes only the queries that call the plane
// are changed, however they are cut.
func TestScribe(t *testing.T) {
	t.Parallel()
	long := "select pgaadauth_x('" + strings.Repeat("x", maxStatement) + "')"
	call := &pgproto3.Query{String: "select PGAADAUTH_x()"}
	in := stream(t, &pgproto3.Query{String: "select 1"}, &pgproto3.Parse{Query: "select pgaadauth_x()"}, &pgproto3.Sync{}, call,
		&pgproto3.Query{String: long}, &pgproto3.CopyData{Data: bytes.Repeat([]byte("pgaadauth_"), 5000)}, &pgproto3.Query{String: "select pgaadauth_no()"}, call, &pgproto3.Terminate{})
	want := stream(t, &pgproto3.Query{String: "select 1"}, &pgproto3.Parse{Query: "select pgaadauth_x()"}, &pgproto3.Sync{}, &pgproto3.Query{String: "answer"},
		&pgproto3.Query{String: long}, &pgproto3.CopyData{Data: bytes.Repeat([]byte("pgaadauth_"), 5000)}, &pgproto3.Query{String: "select pgaadauth_no()"}, &pgproto3.Query{String: "answer"}, &pgproto3.Terminate{})
	ask := func(_ context.Context, sql string) (string, bool) { return "answer", sql == call.String }
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
		c := scribed(readerConn{Reader: r}, gateway.Grant{Statement: ask})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	c := readerConn{Reader: bytes.NewReader(in)}
	if scribed(c, gateway.Grant{}) != net.Conn(c) {
		t.Error("a session that is no administrator's is read")
	}
}

// FuzzScribe: without an answer every byte passes as it came, but for an
// unfinished short query at the end.
func FuzzScribe(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x08abc\x00S\x00\x00\x00\x04"))
	f.Add([]byte("Q\x00\x00\x00\x00Q\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := scribed(readerConn{Reader: iotest.HalfReader(bytes.NewReader(in))}, gateway.Grant{Statement: func(context.Context, string) (string, bool) { return "", false }})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(in, got) || len(in)-len(got) > maxStatement {
			t.Errorf("%q became %q: %v", in, got, err)
		}
	})
}
