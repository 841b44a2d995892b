package tds_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// loginAck, done and change are tokens of an answer to LOGIN7.
func loginAck() []byte {
	body := append(append([]byte{1, 0x74, 0, 0, 4, 1}, utf16le("S")...), 1, 2, 3, 4)
	return append([]byte{0xad, byte(len(body)), 0}, body...)
}

func done(status byte) []byte { return append([]byte{0xfd, status}, make([]byte, 11)...) }

func change(kind byte, body ...byte) []byte {
	return append([]byte{0xe3, byte(len(body) + 1), 0, kind}, body...)
}

// scripted is a plain backend that lets everybody in and then does as it is
// told.
func scripted(t testing.TB, prelogin, welcome []byte, session func(net.Conn)) func(*tds.Config, *door) {
	return func(_ *tds.Config, d *door) {
		d.grant.TLS = nil
		d.grant.Addr = liar(t, prelogin, func(c net.Conn) {
			_, _ = c.Write(packet(4, 1, welcome))
			if session != nil {
				session(c)
			}
		})
	}
}

// in logs in by hand and returns the connection and the answer.
func (d *door) in(t testing.TB, hello, login []byte) (net.Conn, []byte) {
	t.Helper()
	s := d.secured(t, hello)
	_, _ = s.Write(packet(16, 1, login))
	b, err := readPacket(s)
	if err != nil || bytes.Contains(b, utf16le("ailed")) {
		t.Fatalf("%q: %v", text16(b), err)
	}
	return s, b
}

// TestNamesOfOtherServers: what a backend says about other servers (the
// partner of a mirrored database, a user's instance, routing of either kind)
// never reaches the client, which would go there with its token.
func TestNamesOfOtherServers(t *testing.T) {
	evil := utf16le("evil.test")
	name := append([]byte{byte(len(evil) / 2)}, evil...)
	routed := append(binary.LittleEndian.AppendUint16([]byte{0, 0x99, 5}, uint16(len(evil)/2)), evil...)
	routed = append(binary.LittleEndian.AppendUint16(nil, uint16(len(routed))), append(routed, 0, 0)...)
	for kind, body := range map[byte][]byte{13: append(slices.Clone(name), 0), 19: append(slices.Clone(name), 0), 21: routed} {
		db := append([]byte{2}, append(utf16le("db"), 0)...)
		d := open(t, tdstest.Options{}, scripted(t, plainHello(2), slices.Concat(change(1, db...), change(kind, body...), loginAck(), done(0)), nil))
		_, b := d.in(t, helloWith(nil, 0), login7(withToken(3, appTok, nil)))
		if bytes.Contains(b, evil) {
			t.Errorf("ENVCHANGE %d reached the client", kind)
		}
		if !bytes.Contains(b, utf16le("db")) {
			t.Error("the database did not reach the client")
		}
	}
}

// TestFeaturesThatPass: a backend is asked for features that are known here,
// without that by which it could send the client elsewhere.
func TestFeaturesThatPass(t *testing.T) {
	d := open(t, tdstest.Options{})
	var all [][]byte
	for _, id := range []byte{0x04, 0x09, 0x0a, 0x0f, 0x10, 0x77} {
		all = append(all, feature(id, []byte{1}))
	}
	d.in(t, helloWith(nil, 0), login7(append(all, withToken(3, appTok, nil))...))
	var got []byte
	for _, f := range d.sql.Seen()[0].Features {
		got = append(got, f.ID)
	}
	if want := []byte{0x04, 0x09, 0x0a, 0x10}; !slices.Equal(got, want) {
		t.Errorf("the backend was asked for %x, want %x", got, want)
	}
}
