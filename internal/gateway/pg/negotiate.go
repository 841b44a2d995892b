package pg

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/hawser/hawser/internal/gateway"
)

// alpn is PostgreSQL's protocol name in TLS; direct TLS must offer it so that
// a browser can't be tricked into talking to a database.
const alpn = "postgresql"

// recordTypeHandshake is the first byte of a TLS connection: RFC 8446, 5.1.
const recordTypeHandshake = 0x16

// negotiate brings the connection under TLS and returns the body of its
// startup message. A nil body means that it was a cancel request, which has
// been served. The returned connection is never nil.
func (g *Gateway) negotiate(ctx context.Context, raw net.Conn) (net.Conn, []byte, error) {
	for askedGSS := false; ; askedGSS = true {
		var head [9]byte
		n, err := io.ReadAtLeast(raw, head[:], 8)
		if err != nil {
			return raw, nil, err
		}
		if head[0] == recordTypeHandshake && !askedGSS {
			return g.secure(ctx, &gateway.Replayed{Conn: raw, Head: head[:n]}, true)
		}
		length, code := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:8])
		asks := length == 8 && (code == codeSSL || code == codeGSS)
		switch {
		case asks && n > 8: // CVE-2021-23214: bytes sent before TLS must not be taken as sent within
			return raw, nil, errUnread("received unencrypted data after a request for encryption")
		case asks && code == codeSSL:
			if _, err := raw.Write([]byte{'S'}); err != nil {
				return raw, nil, err
			}
			return g.secure(ctx, raw, false)
		case asks && !askedGSS:
			if _, err := raw.Write([]byte{'N'}); err != nil {
				return raw, nil, err
			}
			continue
		}
		return g.plain(ctx, raw, head[:n])
	}
}

// secure does the TLS handshake and reads the startup message within.
func (g *Gateway) secure(ctx context.Context, raw net.Conn, direct bool) (net.Conn, []byte, error) {
	c := tls.Server(raw, g.tls)
	if err := c.Handshake(); err != nil { // bounded by the connection's deadline
		return raw, nil, fmt.Errorf("TLS handshake: %w", errHandshake{err})
	}
	if direct && c.ConnectionState().NegotiatedProtocol != alpn {
		return c, nil, errStartup(protocolViolation, "received direct SSL connection request without ALPN protocol negotiation extension")
	}
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return c, nil, err
	}
	body, err := g.startupBody(ctx, c, head[:])
	return c, body, err
}

// errHandshake marks an error that TLS itself has told the client about.
type errHandshake struct{ error }

func (errHandshake) Timeout() bool   { return false }
func (errHandshake) Temporary() bool { return false }

// plain reads the startup message of a client without TLS, only to name in
// the refusal what it wanted; a cancel request is served.
func (g *Gateway) plain(ctx context.Context, raw net.Conn, head []byte) (net.Conn, []byte, error) {
	body, err := g.startupBody(ctx, &gateway.Replayed{Conn: raw, Head: head}, nil)
	if err != nil || body == nil {
		return raw, nil, err
	}
	s, err := parseStartup(body, g.domain)
	if s == nil {
		return raw, nil, err
	}
	return raw, nil, noEncryption(raw.RemoteAddr(), s.user, s.database)
}

// startupBody reads the rest of a startup message of which head has been read
// already. It serves a cancel request and returns nil for it.
func (g *Gateway) startupBody(ctx context.Context, c net.Conn, head []byte) ([]byte, error) {
	if head == nil {
		head = make([]byte, 8)
		if _, err := io.ReadFull(c, head); err != nil {
			return nil, err
		}
	}
	length, code := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:8])
	if length < 8 || length > maxStartup {
		return nil, errUnread("invalid length of startup packet")
	}
	body := make([]byte, length-4)
	copy(body, head[4:8])
	if _, err := io.ReadFull(c, body[4:]); err != nil {
		return nil, err
	}
	switch code {
	case codeCancel:
		g.cancel(ctx, body[4:])
		return nil, nil
	case codeSSL, codeGSS:
		return nil, errStartup(protocolViolation, "encryption was negotiated already")
	}
	return body, nil
}

// nameByHost takes the server that the client's TLS host name means.
func (g *Gateway) nameByHost(c net.Conn, s *startup) error {
	t, ok := c.(*tls.Conn)
	if !ok {
		return errStartup(invalidAuthorization, "no encryption")
	}
	server, err := gateway.ServerOfHost(t.ConnectionState().ServerName, g.domain)
	if err != nil {
		return errStartup(invalidAuthorization, "%v", err)
	}
	if server == "" {
		return nil
	}
	return s.name(server)
}
