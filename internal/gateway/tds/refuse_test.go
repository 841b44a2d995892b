package tds_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

const nobody = "Login failed for user '<token-identified principal>'."

// TestRefusals: who may not come in is told so by the numbers and texts that
// drivers know.
func TestRefusals(t *testing.T) {
	d := open(t, tdstest.Options{})
	for name, c := range map[string]struct {
		how    how
		set    func()
		number int32
		text   string
		state  uint8
	}{
		"forged token":        {how{token: "forged"}, nil, 18456, nobody, 1},
		"another audience":    {how{token: "aud"}, nil, 18456, nobody + " Incorrect or invalid token.", 1},
		"expired":             {how{token: "late"}, nil, 18456, nobody + " Token is expired.", 233},
		"expired, library 2":  {how{token: "late", library: mssql.FedAuthLibraryADAL}, nil, 18456, nobody + " Token is expired.", 233},
		"names nobody":        {how{token: "nobody"}, nil, 18456, nobody + " Incorrect or invalid token.", 1},
		"the store is away":   {how{token: "away"}, nil, 40613, "is not currently available", 1},
		"the store is slow":   {how{token: "timeout"}, nil, 40613, "is not currently available", 1},
		"no such server":      {how{host: "s2." + domain}, nil, 40532, `Cannot open server "s2" requested by the login. The login failed.`, 1},
		"two servers":         {how{more: "server=s2"}, nil, 40532, "names another server", 1},
		"no role":             {how{}, func() { d.revoke = true }, 18456, nobody, 1},
		"too many":            {how{}, func() { d.full = true }, 10928, "Resource ID: 2.", 1},
		"no such database":    {how{more: "database=none"}, nil, 18456, nobody, 1},
		"the backend is gone": {how{}, func() { d.grant.Addr = "127.0.0.1:1" }, 40613, "is not currently available", 1},
		"wrong password":      {how{}, func() { d.grant.User = "other" }, 40613, "is not currently available", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var was gateway.Grant
			d.set(func() {
				was = d.grant
				if c.set != nil {
					c.set()
				}
			})
			defer d.set(func() { d.grant, d.revoke, d.full = was, false, false })
			if strings.HasPrefix(c.how.more, "server=") {
				c.how.dial = d.dialer()
			}
			_, err := d.connect(t, c.how)
			var e mssql.Error
			if !errors.As(err, &e) || e.Number != c.number || !strings.Contains(e.Message, c.text) || e.State != c.state {
				t.Errorf("refused with %d, state %d: %v", e.Number, e.State, err)
			}
			if err != nil && (strings.Contains(err.Error(), d.sql.Addr()) || strings.Contains(err.Error(), "127.0.0.1:1 ")) {
				t.Errorf("it says where the backend is: %v", err)
			}
		})
	}
	if len(d.Sessions()) != 0 {
		t.Error("a session began")
	}
}

// TestPasswordsAreRefused: a SQL login is no way in, and its user is told in
// words that go-mssqldb and FreeTDS print.
func TestPasswordsAreRefused(t *testing.T) {
	d := open(t, tdstest.Options{})
	if err := d.byPassword(t, "app", secret); number(err) != 18456 || !strings.Contains(err.Error(), "Login failed for user 'app'.") {
		t.Errorf("refused with %v", err)
	}
	for _, version := range []string{"7.0", "7.1", "7.3", "7.4"} {
		conf := filepath.Join(t.TempDir(), "freetds.conf")
		text := "[global]\nencryption = require\nca file = " + d.ca + "\ncheck certificate hostname = no\n[s1]\nhost = 127.0.0.1\nport = " + d.port + "\ntds version = " + version + "\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("tsql", "-S", "s1", "-U", "app", "-P", secret)
		cmd.Env = append(os.Environ(), "FREETDSCONF="+conf)
		out, err := cmd.CombinedOutput()
		want := "Login failed for user 'app'."
		if version == "7.0" {
			continue // has no PRELOGIN, see the next test
		}
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("TDS %s: %v: %s", version, err, out)
		}
	}
	if len(d.targets()) != 0 {
		t.Error("a password was asked about")
	}
}

// TestNoEncryption: a client that has no TLS is told that it is needed, and
// its login is not looked at.
func TestNoEncryption(t *testing.T) {
	d := open(t, tdstest.Options{})
	conf := filepath.Join(t.TempDir(), "freetds.conf")
	if err := os.WriteFile(conf, []byte("[s1]\nhost = 127.0.0.1\nport = "+d.port+"\ntds version = 7.4\nencryption = off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tsql", "-S", "s1", "-U", "app", "-P", secret)
	cmd.Env = append(os.Environ(), "FREETDSCONF="+conf)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("tsql without encryption: %s", out)
	}
	if _, err := d.connect(t, how{more: "encrypt=disable"}); err == nil {
		t.Error("go-mssqldb without encryption was let in")
	}
	for _, first := range [][]byte{packet(18, 1, plainHello(2)), packet(18, 1, plainHello(0)), nil} {
		c := d.raw(t)
		if first != nil {
			_, _ = c.Write(first)
			if b, err := readPacket(c); err != nil || b[encryptionAt(b)] != 3 {
				t.Errorf("PRELOGIN is answered by %x: %v", b, err)
			}
		}
		_, _ = c.Write(packet(16, 1, make([]byte, 200)))
		b, err := readPacket(c)
		if err != nil || !strings.Contains(text16(b), "Encryption is required") {
			t.Errorf("a plain login is answered by %q: %v", text16(b), err)
		}
	}
	if len(d.targets()) != 0 {
		t.Error("a plain login was asked about")
	}
}

// TestRepair: a backend that refuses the role's password, or wants it changed,
// is repaired once.
func TestRepair(t *testing.T) {
	for name, broken := range map[string]tdstest.Login{
		"another password": {Name: "app", Password: "not this"},
		"must change":      {Name: "app", Password: secret, MustChange: true},
		"is locked":        {Name: "app", Password: secret, Locked: true},
		"has expired":      {Name: "app", Password: secret, Expired: true},
	} {
		t.Run(name, func(t *testing.T) {
			var times atomic.Int64
			d := open(t, tdstest.Options{}, func(c *tds.Config, d *door) {
				c.Repair = d.repairer(&times, true)
			})
			d.sql.SetLogin(broken)
			if got := ask(t, d.mustConnect(t, how{}), "SELECT SUSER_SNAME()"); got != "app" || times.Load() != 1 {
				t.Errorf("in as %q after %d repairs", got, times.Load())
			}
		})
	}
	var times atomic.Int64
	d := open(t, tdstest.Options{}, func(c *tds.Config, d *door) { c.Repair = d.repairer(&times, false) })
	d.sql.SetLogin(tdstest.Login{Name: "app", Password: "not this"})
	if _, err := d.connect(t, how{}); number(err) != 40613 || times.Load() != 1 {
		t.Errorf("%v after %d repairs", err, times.Load())
	}
}
