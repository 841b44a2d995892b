package authority

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/store"
)

const (
	// maxGuesses and maxPeerGuesses are how many wrong codes an address may type
	// within failureWindow.
	maxGuesses     = 20
	maxPeerGuesses = 20
	devicePurpose  = "authority device"
	devicePath     = "/device"
)

// deviceState travels sealed from page to page. A code comes only from a form
// that the person filled in: no link can bring one (RFC 8628 §5.4).
type deviceState struct {
	Key     string `json:"key,omitempty"` // of the device's sign-in, once its code was typed
	Code    string `json:"code,omitempty"`
	Session string `json:"session,omitempty"`
}

// devicePage serves GET /device: the form for the code, or what comes after a
// sign-in that began there.
func (a *Authority) devicePage(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	form, err := parseForm(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > maxAuthorize {
		return nil, malformed("The address cannot be read.")
	}
	if form["ticket"] == "" || form["state"] == "" {
		return a.askUserCode(r, "")
	}
	s, err := a.signin.Redeem(ctx, r, form["ticket"], devicePath+"?state="+url.QueryEscape(form["state"]))
	if az.Is(err, az.Forbidden) {
		return a.askUserCode(r, "The sign-in took too long. Type the code again.")
	}
	if err != nil {
		return nil, err
	}
	st, err := a.openDevice(form["state"])
	if err != nil {
		return nil, err
	}
	return a.confirmDevice(ctx, r, st, s)
}

// devicePlace is of the state in the address that the sign-in comes back to.
// Not the browser's binding protects it, which a sign-in changes, but the
// ticket: it is good for this browser and for this address only.
var devicePlace = seal.Place{Table: "authority/device", ID: "sign-in"}

func (a *Authority) sealDevice(st deviceState) (string, error) {
	plain, err := json.Marshal(st)
	if err != nil {
		return "", az.Errorf(az.Internal, "", "").Because(err)
	}
	sealed, err := a.cfg.Sealer.Seal(devicePlace, plain)
	if err != nil {
		return "", az.Errorf(az.Internal, "", "").Because(err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (a *Authority) openDevice(text string) (st deviceState, err error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		sealed, err = a.cfg.Sealer.Open(devicePlace, sealed)
	}
	if err == nil {
		err = json.Unmarshal(sealed, &st)
	}
	if err != nil {
		return st, malformed("The address cannot be read.")
	}
	return st, nil
}

func (a *Authority) askUserCode(r *rest.Request, problem string) (*rest.Reply, error) {
	text, header, err := a.signin.Hide(r, devicePurpose, deviceState{})
	if err != nil {
		return nil, err
	}
	return withHeader(a.signin.Page(r, http.StatusOK, signin.DevicePage{Problem: problem, State: text, Action: devicePath}), header), nil
}

// deviceForm serves POST /device: a code, or the answer to "is it yours?".
func (a *Authority) deviceForm(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	form, err := parseForm(string(r.Body))
	if err != nil {
		return nil, err
	}
	var st deviceState
	if err := a.signin.Reveal(r, devicePurpose, form["state"], &st); err != nil {
		return nil, err
	}
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	if st.Key == "" {
		return a.takeUserCode(ctx, r, form["user_code"])
	}
	s, err := a.sessionNamed(ctx, r, st.Session)
	if err != nil {
		return nil, err
	}
	by := signedBy(s, peerOf(r.RemoteAddr))
	if form["answer"] != "accept" {
		return a.decideDevice(ctx, r, st.Key, by, false)
	}
	return a.approveDevice(ctx, r, st.Key, by)
}

// takeUserCode looks for a code that a person typed. Wrong ones are counted.
func (a *Authority) takeUserCode(ctx context.Context, r *rest.Request, typed string) (*rest.Reply, error) {
	peer := peerOf(r.RemoteAddr)
	if err := a.guesses.check("", peer); err != nil {
		return nil, az.Errorf(az.TooMany, "TooManyCodes", "Too many wrong codes were typed here. Wait a minute, then try again.")
	}
	row, ok, err := a.typedDevice(ctx, typed)
	if err != nil {
		return nil, err
	}
	if !ok {
		a.guesses.note("", peer)
		err := a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Action: "device code", Outcome: guard.Refused, Reason: "unknown code", Peer: peer})
		if err != nil {
			return nil, err
		}
		return a.askUserCode(r, "That code did not work. Compare it with the one on the device and type it again.")
	}
	var f deviceFacts
	if err := json.Unmarshal(row.Body, &f); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	c, err := a.knownClient(ctx, f.Client)
	if err != nil {
		return nil, err
	}
	text, err := a.sealDevice(deviceState{Key: row.Key, Code: readUserCode(typed)})
	if err != nil {
		return nil, err
	}
	return a.signin.Start(ctx, r, signin.Ask{Return: devicePath + "?state=" + url.QueryEscape(text), App: c.Principal.Name, Select: true})
}

func (a *Authority) typedDevice(ctx context.Context, typed string) (store.DeviceCode, bool, error) {
	code := readUserCode(typed)
	if code == "" {
		return store.DeviceCode{}, false, nil
	}
	row, ok, err := a.store.DeviceCodeOf(ctx, a.keyOf("user code", code))
	return row, ok && row.Status == devicePending && az.MicrosOf(a.clock()) < row.Expires, err
}

// confirmDevice asks the person who signed in whether the device is theirs.
func (a *Authority) confirmDevice(ctx context.Context, r *rest.Request, st deviceState, s signin.Session) (*rest.Reply, error) {
	row, f, err := a.waitingDevice(ctx, st.Key)
	if err != nil {
		return nil, err
	}
	c, err := a.knownClient(ctx, f.Client)
	if err != nil {
		return nil, err
	}
	person, err := a.person(ctx, signedBy(s, ""))
	if err != nil {
		return nil, err
	}
	text, header, err := a.signin.Hide(r, devicePurpose, deviceState{Key: row.Key, Code: st.Code, Session: s.ID})
	if err != nil {
		return nil, err
	}
	return withHeader(a.signin.Page(r, http.StatusOK, signin.DevicePage{Code: st.Code, App: c.Principal.Name, IP: f.Peer, User: person.UPN, State: text, Action: devicePath}), header), nil
}

func (a *Authority) waitingDevice(ctx context.Context, key string) (store.DeviceCode, *deviceFacts, error) {
	gone := oauthError(az.Invalid, "expired_token", 70020, "The device's code is not good any more. Begin again on the device.")
	row, ok, err := a.store.DeviceCode(ctx, key)
	if err != nil {
		return row, nil, err
	}
	var f deviceFacts
	if !ok || row.Status != devicePending || az.MicrosOf(a.clock()) >= row.Expires || json.Unmarshal(row.Body, &f) != nil {
		return row, nil, gone
	}
	return row, &f, nil
}

// approveDevice lets a device in, after consent where it is missing.
func (a *Authority) approveDevice(ctx context.Context, r *rest.Request, key string, by signed) (*rest.Reply, error) {
	_, f, err := a.waitingDevice(ctx, key)
	if err != nil {
		return nil, err
	}
	g := &grant{Host: a.names.Classify(r.Host), By: by}
	if g.Client, err = a.knownClient(ctx, f.Client); err != nil {
		return nil, err
	}
	g.Principal = g.Client.Principal
	if g.Person, err = a.person(ctx, by); err != nil {
		return nil, err
	}
	k, err := a.parseAsk(f.Scope, f.Resource, f.V1)
	if err != nil {
		return nil, err
	}
	if g.Target, err = a.target(ctx, k.Resource); err != nil {
		return nil, err
	}
	if _, err := a.describe(ctx, g); err != nil {
		return nil, err
	}
	needs, err := a.needs(ctx, g.Client, g.Person.ID, k, g.Target, false)
	if err != nil {
		return nil, err
	}
	if len(needs) > 0 {
		return a.askConsent(ctx, r, g, needs, consentState{Kind: consentDevice, Device: key})
	}
	return a.decideDevice(ctx, r, key, by, true)
}

// decideDevice writes down what the person said.
func (a *Authority) decideDevice(ctx context.Context, r *rest.Request, key string, by signed, accepted bool) (*rest.Reply, error) {
	row, f, err := a.waitingDevice(ctx, key)
	if err != nil {
		return nil, err
	}
	to, outcome := deviceDeclined, guard.Refused
	if accepted {
		to, outcome, f.By = deviceApproved, guard.Allowed, by
	}
	body, err := json.Marshal(f)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	who := az.Principal{ObjectID: by.User, AppID: f.Client, TenantID: a.names.Tenant, Kind: az.User}
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: "device code", Outcome: outcome, Peer: by.Peer, Detail: "device at " + f.Peer})
	if err != nil {
		return nil, err
	}
	moved := false
	err = a.store.Write(ctx, func(tx *store.Tx) (err error) {
		moved, err = tx.MoveDeviceCode(row.Key, devicePending, to, body)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !moved {
		return nil, oauthError(az.Invalid, "expired_token", 70020, "The device was answered already.")
	}
	name := ""
	if c, ok, err := a.dir.Client(ctx, f.Client); err == nil && ok {
		name = strings.TrimSpace(c.Principal.Name)
	}
	return a.signin.Page(r, http.StatusOK, signin.DevicePage{Done: true, Declined: !accepted, App: name}), nil
}
