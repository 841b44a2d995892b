package signin

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
)

// device is what a browser remembers of who signed in in it. It is sealed, so
// nobody can claim to be such a browser, and gives no right but to be counted
// apart (lockout.go).
type device struct {
	ID       string   `json:"id"`
	Accounts []string `json:"accounts"` // object ids, newest first
}

const (
	// deviceLife is how long a browser is remembered. Source: RFC 6265bis
	// §5.5 limits cookies to 400 days; a year is enough.
	deviceLife = 365 * 24 * time.Hour
	// maxDevice bounds the cookie: browsers keep 4,096 bytes of one.
	maxDevice = 3 << 10
)

var devicePlace = seal.Place{Table: "signin/device", ID: "device"}

// device reads the request's; the zero value is a browser never seen.
func (s *SignIn) device(r *rest.Request) (d device) {
	list := r.CookiesNamed(deviceCookie)
	if len(list) != 1 || len(list[0].Value) > maxDevice {
		return device{}
	}
	sealed, err := base64.RawURLEncoding.DecodeString(list[0].Value)
	if err != nil {
		return device{}
	}
	plain, err := s.sealer.Open(devicePlace, sealed)
	if err != nil || json.Unmarshal(plain, &d) != nil {
		return device{}
	}
	return d
}

// seen returns the device's id if a person signed in there before.
func (d device) seen(oid string) string {
	if slices.Contains(d.Accounts, oid) {
		return d.ID
	}
	return ""
}

// remember notes in the browser that a person signed in.
func (s *SignIn) remember(r *rest.Request, header http.Header, oid string) {
	d := s.device(r)
	if d.ID == "" {
		d.ID = randomSecret()
	}
	d.Accounts = append([]string{oid}, slices.DeleteFunc(d.Accounts, func(a string) bool { return a == oid })...)
	if len(d.Accounts) > maxAccounts {
		d.Accounts = d.Accounts[:maxAccounts]
	}
	plain, err := json.Marshal(d)
	if err != nil { // texts only: cannot happen
		return
	}
	if sealed, err := s.sealer.Seal(devicePlace, plain); err == nil {
		setCookie(header, deviceCookie, base64.RawURLEncoding.EncodeToString(sealed), deviceLife)
	}
}
