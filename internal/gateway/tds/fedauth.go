package tds

import (
	"crypto/subtle"
	"encoding/binary"
	"io"

	"github.com/hawser/hawser/internal/az"
)

// Features: [MS-TDS] 2.2.6.4.
const (
	featureRecovery     = 0x01 // SESSIONRECOVERY
	featureFedAuth      = 0x02
	featureEncryption   = 0x04 // COLUMNENCRYPTION
	featureTransactions = 0x05 // GLOBALTRANSACTIONS
	featureAzure        = 0x08 // AZURESQLSUPPORT
	featureLabels       = 0x09 // DATACLASSIFICATION
	featureUTF8         = 0x0a
	featureDNS          = 0x0b // AZURESQLDNSCACHING
	featureJSON         = 0x0d
	featureVector       = 0x0e
	featureAgent        = 0x10 // USERAGENT
)

// passes reports whether a backend is asked for a feature. One that is not
// known here is not: it could make the backend say what is not understood. So
// is 0x0f, ENHANCEDROUTINGSUPPORT, which would send the client elsewhere.
func passes(feature byte) bool {
	switch feature {
	case featureRecovery, featureEncryption, featureTransactions, featureAzure, featureLabels, featureUTF8, featureDNS, featureJSON, featureVector, featureAgent:
		return true
	}
	return false
}

// Libraries of FEDAUTH: ibid.
const (
	librarySecurityToken = 0x01 // the token is in LOGIN7
	libraryMSAL          = 0x02 // the token follows FEDAUTHINFO
)

// fedAuth is the FEDAUTH feature of a LOGIN7.
type fedAuth struct {
	library byte
	token   []byte // UTF-16, of librarySecurityToken
	nonce   []byte
}

var errFedAuth = protocolError("the federated authentication of LOGIN7 is malformed")

// parseFedAuth reads the feature's data. echo is what our PRELOGIN said.
func parseFedAuth(data []byte, echo bool) (a fedAuth, err error) {
	f := fields{b: data}
	options := f.u8()
	a.library = options >> 1
	switch a.library {
	case librarySecurityToken:
		a.token = f.block()
		if len(f.b) > 0 {
			a.nonce = f.take(nonceSize)
		}
	case libraryMSAL:
		f.u8() // the workflow: the client's own matter
	default:
		return a, protocolError("the client asks for a federated authentication library that is not supported: use a token of Microsoft Entra ID")
	}
	if f.bad || len(f.b) > 0 || (options&1 == 1) != echo {
		return a, errFedAuth
	}
	return a, nil
}

// askToken returns the client's token: from LOGIN7, or by telling it where
// tokens are to be had and waiting for one.
func (g *Gateway) askToken(f *front, l *login7) (az.Secret, error) {
	var data []byte
	found := false
	for _, x := range l.features {
		if x.id == featureFedAuth {
			data, found = x.data, true
		}
	}
	if !found || l.integrated || l.user != "" || l.password {
		return az.Secret{}, badLogin(l.user, errOtherLogin)
	}
	a, err := parseFedAuth(data, f.hello.fedauth)
	if err != nil {
		return az.Secret{}, err
	}
	raw, nonce := a.token, a.nonce
	if a.library == libraryMSAL {
		if _, err := f.conn.Write(g.fedAuthInfo(l)); err != nil {
			return az.Secret{}, err
		}
		if raw, nonce, err = readToken(f.conn); err != nil {
			return az.Secret{}, err
		}
	}
	if f.nonce != nil && subtle.ConstantTimeCompare(nonce, f.nonce) != 1 || f.nonce == nil && nonce != nil {
		return az.Secret{}, protocolError("the nonce of the federated authentication is not the one that was given")
	}
	if len(raw) == 0 || len(raw)%2 != 0 {
		return az.Secret{}, badToken(errNoToken)
	}
	return az.NewSecret(fromUTF16(raw)), nil
}

// readToken reads the message that answers FEDAUTHINFO: [MS-TDS] 2.2.6.3.
func readToken(r io.Reader) (token, nonce []byte, err error) {
	b, _, err := readMessage(r, typeToken, maxTokenMsg)
	if err != nil {
		return nil, nil, clientError(err)
	}
	return parseToken(b)
}

func parseToken(b []byte) (token, nonce []byte, err error) {
	f := fields{b: b}
	if n := f.u32(); uint64(n) != uint64(len(f.b)) {
		return nil, nil, errFedAuth
	}
	token = f.block()
	if len(f.b) > 0 {
		nonce = f.take(nonceSize)
	}
	if f.bad || len(f.b) > 0 {
		return nil, nil, errFedAuth
	}
	return token, nonce, nil
}

// FEDAUTHINFO: [MS-TDS] 2.2.7.12.
const (
	tokenFedAuthInfo = 0xee
	infoSTSURL       = 1
	infoSPN          = 2
)

// fedAuthInfo tells where a token is to be had, and for what.
func (g *Gateway) fedAuthInfo(l *login7) []byte {
	le := binary.LittleEndian
	sts, spn := appendUTF16(nil, g.stsURL), appendUTF16(nil, g.spn)
	const heads = 4 + 2*9 // the count, and two times id, length and offset
	b := le.AppendUint32(nil, 2)
	b = append(b, infoSTSURL)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(sts))), heads)
	b = append(b, infoSPN)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(spn))), uint32(heads+len(sts)))
	b = append(append(b, sts...), spn...)
	token := append(le.AppendUint32([]byte{tokenFedAuthInfo}, uint32(len(b))), b...)
	return appendMessage(nil, typeReply, 0, 0, l.answerSize(), token)
}

// answerSize is the size of packets until the login is over. A client that
// asks for smaller ones has buffers for no more.
func (l *login7) answerSize() int {
	if l == nil || l.packetSize < minPacket || l.packetSize > firstPacket {
		return firstPacket
	}
	return int(l.packetSize)
}
