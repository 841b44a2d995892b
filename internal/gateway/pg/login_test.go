package pg_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
)

func TestPsqlLogsInWithAToken(t *testing.T) {
	d := open(t)
	for _, mode := range []string{"sslmode=require", "sslmode=verify-ca", "sslmode=verify-full", "sslmode=prefer", "gssencmode=prefer"} {
		got, err := d.psql(t, "SELECT current_user || '/' || current_database()", mode)
		if err != nil || got != "app/appdb" {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
	}
	if got, err := d.psql(t, "SELECT current_user", "user='Group With Space' dbname=postgres"); err != nil || got != "Group With Space" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPlainConnectionsAreRefusedAsPostgresDoes(t *testing.T) {
	d := open(t)
	got, err := d.psql(t, "SELECT 1", "sslmode=disable")
	want := `no pg_hba.conf entry for host "127.0.0.1", user "app", database "appdb", no encryption`
	if err == nil || !strings.Contains(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if len(d.targets()) != 0 {
		t.Error("a plain connection was authorised")
	}
}

func TestDirectTLS(t *testing.T) {
	d := open(t)
	c := d.mustConnect(t, "sslnegotiation=direct")
	if got := ask(t, c, "SELECT current_user::text"); got != "app" {
		t.Errorf("got %q", got)
	}
	raw, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: d.pool, ServerName: "localhost"}) // no ALPN
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	wantError(t, pgproto3.NewFrontend(raw, raw), "08P01", "without ALPN")
}

func TestServerIsChosen(t *testing.T) {
	for _, c := range []struct {
		name, conn, sni string
		want            string // the server asked for, or the refusal
	}{
		{name: "the only one", want: ""},
		{name: "host name", sni: "s1." + domain, want: "s1"},
		{name: "host name in capitals", sni: "S1." + strings.ToUpper(domain), want: "s1"},
		{name: "foreign host name", sni: "localhost", want: ""},
		{name: "option", conn: "options=endpoint=s1", want: "s1"},
		{name: "option as setting", conn: "options='-c endpoint=s1'", want: "s1"},
		{name: "user", conn: "user=app@s1", want: "s1"},
		{name: "user with host", conn: "user=app@s1." + domain, want: "s1"},
		{name: "all agree", sni: "s1." + domain, conn: "user=app@s1 options=endpoint=S1", want: "s1"},
		{name: "role with an at sign", conn: "user=team@corp@s1", want: "the database server refused the gateway"},
		{name: "host and option differ", sni: "s1." + domain, conn: "options=endpoint=s2", want: "names two servers"},
		{name: "host and user differ", sni: "s1." + domain, conn: "user=app@s2", want: "names two servers"},
		{name: "two options differ", conn: "options='-c endpoint=s1 -c endpoint=s2'", want: "names two servers"},
		{name: "no such server", conn: "options=endpoint=nope", want: `there is no server "nope"`},
		{name: "below a server", sni: "x.s1." + domain, want: "no server has such a host name"},
		{name: "odd name", conn: "options=endpoint=../s1", want: "invalid server name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			conn, err := d.connect(t, c.conn, func(p *pgx.ConnConfig) {
				if c.sni != "" {
					p.TLSConfig.ServerName = c.sni
					p.TLSConfig.InsecureSkipVerify = true // names the test certificate does not have
				}
			})
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Fatal(err)
				}
				return
			}
			defer closeConn(conn)
			if got := d.targets()[0].Server; got != c.want {
				t.Errorf("asked for %q", got)
			}
			if got := ask(t, conn, "SELECT current_user::text"); got != "app" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestTokensAreRefusedInAzuresWords(t *testing.T) {
	d := open(t)
	for _, c := range []struct{ token, user, code, text string }{
		{"aud", "app", "28000", "The access token does not have a valid audience claim. Please acquire a new token for the resource \"https://ossrdbms-aad.database.windows.net\"."},
		{"hunter2", "app", "28000", "The access token has invalid format. Please ensure the token is passed exactly as returned by the authentication endpoint and retry."},
		{"no-oid", "app", "28000", "The access token doesn't have a valid oid claim. Acquire a new token and try again"},
		{lateTok, "app", "28000", "The access token has expired. Acquire a new token and try again"},
		{"forged", "app", "28P01", `password authentication failed for user "app"`},
		{appTok, "postgres", "28P01", `password authentication failed for user "postgres"`},
		{appTok, "nobody", "28P01", `password authentication failed for user "nobody"`},
		{"app secret", "app", "28000", "The access token has invalid format. Please ensure the token is passed exactly as returned by the authentication endpoint and retry."},
		{"store-away", "app", "57P03", "the login cannot be decided now: try again"},
	} {
		_, err := d.connect(t, "", func(p *pgx.ConnConfig) { p.Password, p.User = c.token, c.user })
		var pe *pgconn.PgError
		if !errors.As(err, &pe) {
			t.Errorf("%s as %s: %v", c.token, c.user, err)
			continue
		}
		if diff := cmp.Diff([]string{"FATAL", c.code, c.text}, []string{pe.Severity, pe.Code, pe.Message}); diff != "" {
			t.Errorf("%s as %s: %s", c.token, c.user, diff)
		}
	}
}

func TestBackendTroubleIsToldWithoutInsides(t *testing.T) {
	d := open(t)
	refused := func(want string, more string) {
		t.Helper()
		_, err := d.connect(t, more)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != want {
			t.Fatalf("%s: %v", more, err)
		}
		if strings.Contains(pe.Message, "secret") || strings.Contains(pe.Message, "127.0.0.1") {
			t.Errorf("told too much: %q", pe.Message)
		}
	}
	refused("3D000", "dbname=nope")
	refused("42501", "dbname=otherdb")
	refused("42704", "options='-c nosuchsetting=1'")
	d.mu.Lock()
	d.roles["app"] = az0("not its password")
	d.mu.Unlock()
	refused("08006", "")
	d.mu.Lock()
	d.addrOf = "127.0.0.1:1"
	d.mu.Unlock()
	refused("08006", "")
}

func TestLongTokens(t *testing.T) {
	d := open(t)
	c := d.mustConnect(t, "", func(p *pgx.ConnConfig) { p.Password = "long" + strings.Repeat("x", 60000) })
	if got := ask(t, c, "SELECT 'in'"); got != "in" {
		t.Error(got)
	}
	_, err := d.connect(t, "", func(p *pgx.ConnConfig) { p.Password = "long" + strings.Repeat("x", 66000) })
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "08P01" {
		t.Errorf("a token past the limit: %v", err)
	}
}

func TestOAuthBearer(t *testing.T) {
	d := open(t)
	with := func(token string) (*pgx.Conn, error) {
		return d.connect(t, "options='-c hawser.auth=oauthbearer' require_auth=oauth", func(p *pgx.ConnConfig) {
			p.Password = ""
			p.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
		})
	}
	c, err := with(appTok)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(c)
	if got := ask(t, c, "SELECT current_user::text"); got != "app" {
		t.Error(got)
	}
	for _, bad := range []string{"forged", lateTok} {
		if _, err := with(bad); err == nil || !strings.Contains(err.Error(), "invalid_token") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestOAuthDiscovery is libpq 18's first connection, which has no token and
// wants to know where to get one.
func TestOAuthDiscovery(t *testing.T) {
	d := open(t)
	f, _ := d.dialTLS(t)
	send(t, f, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "options": "-c hawser.auth=oauthbearer"}})
	m := receive(t, f)
	if a, ok := m.(*pgproto3.AuthenticationSASL); !ok || !cmp.Equal(a.AuthMechanisms, []string{"OAUTHBEARER"}) {
		t.Fatalf("got %#v", m)
	}
	send(t, f, &pgproto3.SASLInitialResponse{AuthMechanism: "OAUTHBEARER", Data: []byte("n,,\x01auth=\x01\x01")})
	m = receive(t, f)
	c, ok := m.(*pgproto3.AuthenticationSASLContinue)
	want := `{"status":"invalid_token","scope":"db","openid-configuration":"https://login.hawser.test/.well-known/openid-configuration"}`
	if !ok || string(c.Data) != want {
		t.Fatalf("got %#v", m)
	}
	send(t, f, &pgproto3.SASLResponse{Data: []byte{1}})
	wantError(t, f, "28000", "")
}

func TestStartupCannotSmuggle(t *testing.T) {
	d := open(t)
	for _, c := range []struct{ name, raw, code, text string }{
		{"two users", "user\x00app\x00user\x00postgres\x00\x00", "08P01", "given twice"},
		{"two databases", "user\x00app\x00database\x00appdb\x00database\x00postgres\x00\x00", "08P01", "given twice"},
		{"capital twin", "user\x00app\x00USER\x00postgres\x00\x00", "08P01", "given twice"},
		{"replication", "user\x00app\x00replication\x00database\x00\x00", "0A000", "replication"},
		{"replication by number", "user\x00app\x00replication\x001\x00\x00", "0A000", "replication"},
		{"role", "user\x00app\x00role\x00other\x00\x00", "08P01", "unsupported startup parameter: role"},
		{"role by option", "user\x00app\x00options\x00-c role=other\x00\x00", "42501", "role"},
		{"role by capital option", "user\x00app\x00options\x00-cROLE=other\x00\x00", "42501", "role"},
		{"role by long option", "user\x00app\x00options\x00--role=other\x00\x00", "42501", "role"},
		{"session authorization", "user\x00app\x00options\x00--session-authorization=other\x00\x00", "42501", "session_authorization"},
		{"escaped", "user\x00app\x00options\x00-c\\ role=other\x00\x00", "22023", ""},
		{"preload", "user\x00app\x00options\x00-c local_preload_libraries=x\x00\x00", "42501", "preload"},
		{"other switches", "user\x00app\x00options\x00-d 5\x00\x00", "22023", "only -c"},
		{"setting twice", "user\x00app\x00search_path\x00a\x00options\x00-c search_path=b\x00\x00", "08P01", "given twice"},
		{"bytes behind the end", "user\x00app\x00\x00user\x00postgres\x00\x00", "08P01", "terminator"},
		{"no end", "user\x00app\x00", "08P01", "terminator"},
		{"name that PostgreSQL would cut", "user\x00app\x00database\x00appdb" + strings.Repeat("x", 60) + "\x00\x00", "28000", "at most 63"},
		{"no user", "database\x00appdb\x00\x00", "28000", "no PostgreSQL user name"},
		{"empty user", "user\x00\x00\x00", "28000", "no PostgreSQL user name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, raw := d.dialTLS(t)
			msg := binary.BigEndian.AppendUint32(nil, uint32(8+len(c.raw)))
			msg = append(binary.BigEndian.AppendUint32(msg, 196608), c.raw...)
			if _, err := raw.Write(msg); err != nil {
				t.Fatal(err)
			}
			wantError(t, f, c.code, c.text)
		})
	}
	if len(d.targets()) != 0 {
		t.Errorf("some were authorised: %v", d.targets())
	}
}

func TestProtocolVersions(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		version uint32
		options []string
		minor   uint32 // in NegotiateProtocolVersion, 0 for none
		key     int
	}{
		{196608, nil, 0, 4},
		{196610, nil, 0, 32},
		{3<<16 | 9999, nil, 196610, 32},
		{196608, []string{"_pq_.x"}, 196608, 4},
	} {
		f, raw := d.dialTLS(t)
		body := "user\x00app\x00database\x00appdb\x00"
		for _, o := range c.options {
			body += o + "\x001\x00"
		}
		body += "\x00"
		msg := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
		msg = append(binary.BigEndian.AppendUint32(msg, c.version), body...)
		if _, err := raw.Write(msg); err != nil {
			t.Fatal(err)
		}
		m := receive(t, f)
		if c.minor != 0 {
			n, ok := m.(*pgproto3.NegotiateProtocolVersion)
			if !ok || n.NewestMinorProtocol != c.minor || len(n.UnrecognizedOptions) != len(c.options) {
				t.Fatalf("%x: got %#v", c.version, m)
			}
			m = receive(t, f)
		}
		if _, ok := m.(*pgproto3.AuthenticationCleartextPassword); !ok {
			t.Fatalf("%x: got %#v", c.version, m)
		}
		send(t, f, &pgproto3.PasswordMessage{Password: appTok})
		for {
			m := receive(t, f)
			if k, ok := m.(*pgproto3.BackendKeyData); ok && len(k.SecretKey) != c.key {
				t.Errorf("%x: a key of %d bytes", c.version, len(k.SecretKey))
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok {
				break
			}
		}
		raw.Close()
	}
	f, raw := d.dialTLS(t)
	_, _ = raw.Write([]byte{0, 0, 0, 9, 0, 2, 0, 0, 0})
	wantError(t, f, "0A000", "unsupported frontend protocol 2.0")
	if c := d.mustConnect(t, "min_protocol_version=3.2 max_protocol_version=3.2"); ask(t, c, "SELECT 'yes'") != "yes" {
		t.Error("pgx with protocol 3.2")
	}
}

func TestBytesStuffedBeforeTLSAreRefused(t *testing.T) {
	d := open(t)
	for _, code := range []uint32{80877103, 80877104} {
		raw, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		msg := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
		_, _ = raw.Write(append(msg, "\x00\x00\x00\x08more"...))
		wantError(t, pgproto3.NewFrontend(raw, raw), "08P01", "unencrypted data")
	}
}

func TestBrokenHandshakesAreAnsweredAndLeakNothing(t *testing.T) {
	d := open(t, func(c *pg.Config, _ *door) { c.Limits.Handshake = 300 * time.Millisecond })
	for name, bytes := range map[string]string{
		"nothing": "", "half a header": "\x00\x00\x00", "http": "GET / HTTP/1.1\r\n\r\n", "huge": "\x7f\xff\xff\xff\x00\x03\x00\x00",
		"short": "\x00\x00\x00\x04\x00\x03\x00\x00", "cut": "\x00\x00\x01\x00\x00\x03\x00\x00user", "cut hello": "\x16\x03\x01\x02\x00\x01",
		"cancel without key": "\x00\x00\x00\x08\x04\xd2\x16\x2e", "ssl then silence": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"gss twice": "\x00\x00\x00\x08\x04\xd2\x16\x30",
	} {
		for _, end := range []string{"close", "half-close", "stay"} {
			raw, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = raw.Write([]byte(bytes))
			switch end {
			case "close":
				raw.Close()
				continue
			case "half-close":
				_ = raw.(*net.TCPConn).CloseWrite()
			}
			_ = raw.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, raw); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s, %s: not closed: %v", name, end, err)
			}
			raw.Close()
		}
	}
}

func TestBrokenPasswordMessages(t *testing.T) {
	d := open(t)
	for name, c := range map[string]struct{ raw, code string }{
		"query instead": {"Q\x00\x00\x00\x0dSELECT 1\x00", "08P01"},
		"two strings":   {"p\x00\x00\x00\x0aapp\x00b\x00", "08P01"},
		"no NUL":        {"p\x00\x00\x00\x07app", "08P01"},
		"length 3":      {"p\x00\x00\x00\x03", "08P01"},
		"huge":          {"p\x7f\x00\x00\x03", "08P01"},
		"empty":         {"p\x00\x00\x00\x05\x00", "28P01"},
	} {
		f, raw := d.dialTLS(t)
		send(t, f, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app"}})
		receive(t, f)
		_, _ = raw.Write([]byte(c.raw))
		t.Log(name)
		wantError(t, f, c.code, "")
	}
}

func TestTooManySessions(t *testing.T) {
	d := open(t, func(c *pg.Config, _ *door) { c.Limits.Sessions = 1 })
	d.mustConnect(t, "")
	_, err := d.connect(t, "")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "53300" {
		t.Errorf("got %v", err)
	}
}

// TestARightLostDuringLogin revokes between Authorize and the session's start.
func TestARightLostDuringLogin(t *testing.T) {
	d := open(t, func(c *pg.Config, d *door) {
		c.Rules.Authorize = func(ctx context.Context, who principal, want gateway.Target) (gateway.Grant, error) {
			grant, err := d.authorize(ctx, who, want)
			if !want.Again {
				d.revoke("app")
				d.recheck() // finds no session: it must not be opened afterwards
			}
			return grant, err
		}
	})
	_, err := d.connect(t, "")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "28P01" {
		t.Errorf("got %v", err)
	}
}

// dialTLS connects with SSLRequest and returns a bare protocol client.
func (d *door) dialTLS(t testing.TB) (*pgproto3.Frontend, net.Conn) {
	t.Helper()
	raw, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := raw.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil || b[0] != 'S' {
		t.Fatalf("answer %q, %v", b, err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: d.pool, ServerName: "localhost"})
	return pgproto3.NewFrontend(c, c), c
}

func send(t testing.TB, f *pgproto3.Frontend, m ...pgproto3.FrontendMessage) {
	t.Helper()
	for _, m := range m {
		f.Send(m)
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, f *pgproto3.Frontend) pgproto3.BackendMessage {
	t.Helper()
	m, err := f.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantError expects a FATAL error and then the end of the connection.
func wantError(t testing.TB, f *pgproto3.Frontend, code, text string) {
	t.Helper()
	m := receive(t, f)
	e, ok := m.(*pgproto3.ErrorResponse)
	if !ok || e.Severity != "FATAL" || e.Code != code || !strings.Contains(e.Message, text) {
		t.Fatalf("want %s %q, got %#v", code, text, m)
	}
	if m, err := f.Receive(); err == nil {
		t.Errorf("the connection stays open: %#v", m)
	}
}

// loginRaw logs in with the bare client.
func (d *door) loginRaw(t testing.TB) (*pgproto3.Frontend, net.Conn, *pgproto3.BackendKeyData) {
	t.Helper()
	f, raw := d.dialTLS(t)
	send(t, f, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": "appdb"}})
	receive(t, f)
	send(t, f, &pgproto3.PasswordMessage{Password: appTok})
	var key pgproto3.BackendKeyData
	for {
		switch m := receive(t, f).(type) {
		case *pgproto3.BackendKeyData:
			key = *m
		case *pgproto3.ErrorResponse:
			t.Fatal(m.Message)
		case *pgproto3.ReadyForQuery:
			return f, raw, &key
		}
	}
}
