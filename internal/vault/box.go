package vault

import (
	"encoding/base64"
	"errors"
)

var errBox = errors.New("the text was not made here, or not for this use")

// pack encrypts and authenticates what a client keeps for us, bound to a
// purpose; unpack opens it for the same purpose only.
func (v *Vaults) pack(purpose string, plain []byte) string {
	return base64.RawURLEncoding.EncodeToString(v.box.Seal(nil, nil, plain, []byte(purpose)))
}

func (v *Vaults) unpack(purpose, text string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errBox
	}
	plain, err := v.box.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, errBox
	}
	return plain, nil
}
