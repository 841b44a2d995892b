package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// ENVCHANGE types: [MS-TDS] 2.2.7.9.
const (
	envDatabase   = 1
	envLanguage   = 2
	envCharset    = 3
	envPacketSize = 4
	envSortID     = 5
	envSortFlags  = 6
	envCollation  = 7
	envRouting    = 20
)

// forClient reports whether a client is told of a change. Those that name
// another server (the partner of a mirrored database, a user's instance, both
// kinds of routing) would lead it there with its token, past this gateway; the
// others have no place in the answer to a login.
func forClient(env byte) bool {
	switch env {
	case envDatabase, envLanguage, envCharset, envPacketSize, envSortID, envSortFlags, envCollation:
		return true
	}
	return false
}

// welcome is a backend's answer to LOGIN7, taken apart.
type welcome struct {
	tokens     []byte    // as they are, without FEATUREEXTACK and DONE
	ackAt      int       // where in tokens the LOGINACK's version stands; 0 for no LOGINACK
	acks       []feature // what the backend agreed to
	packetSize int       // of both halves from now on
	route      *route    // the backend wants the client elsewhere
	errors     []message
}

// route is where a routing ENVCHANGE points.
type route struct {
	host string
	port int
}

// serverError is a login that a backend refused.
type serverError struct{ all []message }

func (e *serverError) Error() string {
	m := e.all[len(e.all)-1]
	return fmt.Sprintf("the server refused the login: error %d, state %d: %s", m.number, m.state, m.text)
}

// has reports whether one of the errors has one of the numbers.
func (e *serverError) has(numbers ...int32) bool {
	for _, m := range e.all {
		for _, n := range numbers {
			if m.number == n {
				return true
			}
		}
	}
	return false
}

var errLying = errors.New("the server's answer to the login breaks the protocol")

// parseWelcome reads a login response. asked are the features that the LOGIN7
// had, and version the TDS version.
func parseWelcome(b []byte, version uint32, asked []feature) (*welcome, error) {
	w := &welcome{packetSize: firstPacket}
	f := fields{b: b}
	for {
		id := f.u8()
		if f.bad {
			return nil, errLying
		}
		if id == tokenDone {
			return w, w.finish(&f)
		}
		if id == tokenFeatureAck {
			if err := w.features(&f, asked); err != nil {
				return nil, err
			}
			continue
		}
		body := f.take(f.u16())
		if f.bad || !w.token(id, body, version) {
			return nil, errLying
		}
	}
}

// token takes a token that has a 2-byte length and reports whether it may
// stand there.
func (w *welcome) token(id byte, body []byte, version uint32) bool {
	switch id {
	case tokenInfo:
	case tokenError:
		m, ok := parseMessage(body)
		w.errors = append(w.errors, m)
		return ok
	case tokenLoginAck:
		if w.ackAt != 0 || len(body) < 10 || binary.BigEndian.Uint32(body[1:]) != version {
			return false
		}
		w.ackAt = len(w.tokens) + 4
	case tokenEnvChange:
		if len(body) == 0 || !w.change(body) {
			return false
		}
		if !forClient(body[0]) {
			return true
		}
	default:
		return false // SSPI, FEDAUTHINFO and all that belongs to a query
	}
	w.tokens = append(w.tokens, id)
	w.tokens = append(binary.LittleEndian.AppendUint16(w.tokens, uint16(len(body))), body...)
	return true
}

// change looks at an ENVCHANGE.
func (w *welcome) change(body []byte) bool {
	f := fields{b: body[1:]}
	switch body[0] {
	case envPacketSize:
		n, err := strconv.Atoi(f.text(int(f.u8())))
		if f.bad || err != nil || n < minPacket || n > maxPacket {
			return false
		}
		w.packetSize = n
	case envRouting:
		v := fields{b: f.take(f.u16())}
		protocol, port := v.u8(), v.u16()
		host := v.text(v.u16())
		if f.bad || v.bad || protocol != 0 || port == 0 || host == "" || w.route != nil {
			return false
		}
		w.route = &route{host, port}
	}
	return true
}

// features reads FEATUREEXTACK. A backend that agrees to what nobody asked for
// lies.
func (w *welcome) features(f *fields, asked []feature) error {
	if w.acks != nil {
		return errLying
	}
	w.acks = []feature{}
	var all []feature
	for {
		id := f.u8()
		if f.bad {
			return errLying
		}
		if id == optEnd {
			w.acks = append(w.acks, all...)
			return nil
		}
		data := f.block()
		known := false
		for _, a := range asked {
			known = known || a.id == id && id != featureFedAuth
		}
		for _, a := range all {
			known = known && a.id != id
		}
		if f.bad || !known {
			return errLying
		}
		all = append(all, feature{id, data})
	}
}

// finish reads the DONE that must be the last token.
func (w *welcome) finish(f *fields) error {
	f.take(12)
	switch {
	case f.bad || len(f.b) > 0:
		return errLying
	case len(w.errors) > 0:
		return &serverError{w.errors}
	case w.ackAt == 0:
		return errLying
	}
	return nil
}

// parseMessage reads the body of an ERROR.
func parseMessage(body []byte) (message, bool) {
	f := fields{b: body}
	m := message{number: int32(f.u32()), state: f.u8(), class: f.u8()}
	m.text = f.text(f.u16())
	return m, !f.bad
}

// acked reports whether the backend agreed to a feature.
func (w *welcome) acked(id byte) bool {
	for _, a := range w.acks {
		if a.id == id {
			return true
		}
	}
	return false
}

// greeting is the login response for the client: the backend's, in the
// client's version of the protocol, and with the acknowledgement of its token.
// nonce is the client's own; nil for none.
func (w *welcome) greeting(l *login7, spid uint16, nonce []byte) []byte {
	b := append(make([]byte, 0, len(w.tokens)+256), w.tokens...)
	binary.BigEndian.PutUint32(b[w.ackAt:], l.version)
	b = append(b, tokenFeatureAck)
	b = appendFeatures(b, append([]feature{{featureFedAuth, nonce}}, w.acks...))
	b = append(b, tokenDone)
	b = append(b, make([]byte, 12)...)
	return appendMessage(nil, typeReply, 0, spid, l.answerSize(), b)
}
