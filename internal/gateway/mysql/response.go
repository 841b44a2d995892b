package mysql

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/gateway"
)

// response is what a client asked for in its HandshakeResponse41.
type response struct {
	flags    uint32 // of those that were offered
	charset  byte   // id of a collation
	user     string
	database string
	plugin   string
	auth     []byte // what it answers to the greeting's plugin
	server   string // "" when it named none
}

// sslRequestSize is the length of a response that stops where TLS begins.
const sslRequestSize = 32

// parseResponse reads the body of a HandshakeResponse41. domain is the part of
// a host name after the server's own.
func parseResponse(body []byte, domain string) (*response, error) {
	f := fields{b: body}
	flags := f.uint32()
	if f.bad || flags&capProtocol41 == 0 {
		return nil, errHandshake("")
	}
	if flags&mandatory != mandatory {
		return nil, &refusal{errno: 1251, state: "08004", message: "Client does not support authentication protocol requested by server; consider upgrading MySQL client"}
	}
	if flags&(capCompress|capZstd) != 0 {
		return nil, errHandshake(": compression is not served by this gateway")
	}
	r := &response{flags: flags & offered}
	f.uint32() // its packet limit: the server has its own
	r.charset = f.uint8()
	f.bytes(23)
	r.user = f.cstring()
	if flags&capLenencAuth != 0 {
		r.auth = f.bytes(f.lenenc())
	} else {
		r.auth = f.bytes(uint64(f.uint8()))
	}
	if flags&capConnectWithDB != 0 {
		r.database = tail(&f)
	}
	r.plugin = tail(&f)
	if flags&capConnectAttrs != 0 && len(f.b) > 0 {
		skipAttributes(&f)
	}
	if f.bad {
		return nil, errHandshake("")
	}
	return r, r.settle(domain)
}

// tail reads a string that the packet's end may end too: some clients send no
// NUL after the last field.
func tail(f *fields) string {
	if !f.bad && bytes.IndexByte(f.b, 0) < 0 {
		s := string(f.b)
		f.b = nil
		return s
	}
	return f.cstring()
}

// skipAttributes reads the connection attributes, which must be what they say
// they are.
func skipAttributes(f *fields) {
	all := fields{b: f.bytes(f.lenenc())}
	for len(all.b) > 0 {
		all.bytes(all.lenenc())
		all.bytes(all.lenenc())
	}
	f.bad = f.bad || all.bad
}

// Bounds of names: MariaDB has 128 characters, of up to four bytes each, for a
// user; both servers have 64 for a database.
const (
	maxName     = 512
	maxDatabase = 64
)

// name takes one naming of the server; another that differs is refused.
func (r *response) name(server string) error {
	server = strings.ToLower(server)
	if r.server != "" && r.server != server {
		return errAccess("the connection names two servers, %s and %s: name one, by host or by user@server", strconv.Quote(r.server), strconv.Quote(server))
	}
	r.server = server
	return nil
}

// settle splits user@server.
func (r *response) settle(domain string) error {
	if len(r.user) > maxName || len(r.database) > maxName {
		return errHandshake("")
	}
	if !utf8.ValidString(r.user) || !utf8.ValidString(r.database) {
		return errHandshake(": the names of users and databases have to be in UTF-8")
	}
	if utf8.RuneCountInString(r.database) > maxDatabase {
		return errDatabaseName(r.database)
	}
	if i := strings.LastIndexByte(r.user, '@'); i > 0 {
		suffix := strings.ToLower(r.user[i+1:])
		if domain != "" {
			suffix = strings.TrimSuffix(suffix, "."+domain)
		}
		if gateway.IsServerName(suffix) {
			r.user = r.user[:i]
			return r.name(suffix)
		}
	}
	return nil
}
