package authority

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

const (
	// deviceLife is how long a device waits. Source: wire/entra.md §4, 900 s.
	deviceLife = 15 * time.Minute
	// deviceInterval is how often a device may ask. Source: the same.
	deviceInterval = 5 * time.Second
	// quickPolls is how many questions may come faster: msal-go asks some times
	// within half a second, whatever the interval.
	quickPolls = 5
	// userAlphabet has no vowels, so that no code is a word, and no characters
	// that look like others. Source: RFC 8628 §6.1.
	userAlphabet = "BCDFGHJKLMNPQRSTVWXZ23456789"
	// userCodeLength gives 28^9, 2^43 codes; 200 guesses a minute against 10,000
	// codes that wait would take years.
	userCodeLength = 9
	// maxDevices bounds the devices that one address may begin in a window.
	maxDevices = 60
)

// The states of a device's sign-in.
const (
	devicePending  = "pending"
	deviceApproved = "approved"
	deviceDeclined = "declined"
	deviceUsed     = "used"
)

// pendingNumber is the AADSTS number of "not yet".
const pendingNumber = 70016

// deviceFacts is what a device asked for and, later, who let it in.
type deviceFacts struct {
	Client   string `json:"client"`
	Scope    string `json:"scope,omitempty"`
	Resource string `json:"resource,omitempty"`
	V1       bool   `json:"v1,omitempty"`
	Peer     string `json:"peer,omitempty"`
	By       signed `json:"by,omitzero"`
}

// deviceReply begins a device's sign-in. Source: RFC 8628 §3.2.
type deviceReply struct {
	UserCode   string `json:"user_code"`
	DeviceCode string `json:"device_code"`
	URI        string `json:"verification_uri"`
	ExpiresIn  int64  `json:"expires_in"`
	Interval   int64  `json:"interval"`
	Message    string `json:"message"`
}

// deviceReplyV1 is the same for the v1 endpoint, whose numbers are strings.
type deviceReplyV1 struct {
	UserCode   string `json:"user_code"`
	DeviceCode string `json:"device_code"`
	URL        string `json:"verification_url"`
	ExpiresIn  string `json:"expires_in"`
	Interval   string `json:"interval"`
	Message    string `json:"message"`
}

// deviceCode serves the endpoint where a device begins.
func (a *Authority) deviceCode(ep endpoint) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		form, err := parseForm(string(r.Body))
		if err != nil {
			return nil, err
		}
		t := &tokenRequest{Endpoint: ep, Host: a.names.Classify(r.Host), Peer: peerOf(r.RemoteAddr), Grant: "device_code", Word: r.PathValue("tenant"),
			ClientID: form["client_id"], Scope: form["scope"], Resource: form["resource"]}
		if err := a.grantTenant(t); err != nil {
			return nil, err
		}
		if err := a.store.Confirm(ctx); err != nil {
			return nil, err
		}
		reply, err := a.beginDevice(ctx, t)
		if err != nil {
			return nil, a.refusedUnlessOurs(ctx, t, grant{}, err)
		}
		return reply, nil
	}
}

// refusedUnlessOurs records a refusal; what failed inside is none.
func (a *Authority) refusedUnlessOurs(ctx context.Context, t *tokenRequest, g grant, err error) error {
	if az.KindOf(err) == az.Internal || az.KindOf(err) == az.Unavailable || az.KindOf(err) == az.TooMany {
		return err
	}
	return a.refused(ctx, t, g, err)
}

func (a *Authority) beginDevice(ctx context.Context, t *tokenRequest) (any, error) {
	if t.ClientID == "" {
		return nil, missing("client_id")
	}
	if err := a.devices.check("", t.Peer); err != nil {
		return nil, err
	}
	a.devices.note("", t.Peer) // every one counts: each writes to the store
	c, _, err := a.client(ctx, t)
	if err != nil {
		return nil, err
	}
	if !c.Facts().PublicClient {
		return nil, noProof()
	}
	if t.Endpoint == endpointV2 && t.Scope == "" {
		return nil, missing("scope")
	}
	k, err := a.parseAsk(t.Scope, t.Resource, t.Endpoint == endpointV1)
	if err != nil {
		return nil, err
	}
	if _, err := a.target(ctx, k.Resource); err != nil {
		return nil, err
	}
	f := deviceFacts{Client: c.AppID, Scope: t.Scope, Resource: t.Resource, V1: t.Endpoint == endpointV1, Peer: t.Peer}
	device, user, err := a.keepDevice(ctx, f)
	if err != nil {
		return nil, err
	}
	uri := a.origin(t.Host) + "/device"
	if !t.Host.Azure { // the short address, as the plane's own name
		uri = a.names.Origin(az.SurfaceLogin) + "/device"
	}
	text := "To sign in, use a web browser to open the page " + uri + " and enter the code " + user + " to authenticate."
	life, every := int64(deviceLife/time.Second), int64(deviceInterval/time.Second)
	if t.Endpoint == endpointV1 {
		return deviceReplyV1{user, device, uri, strconv.FormatInt(life, 10), strconv.FormatInt(every, 10), text}, nil
	}
	return deviceReply{user, device, uri, life, every, text}, nil
}

// keepDevice stores a device's sign-in under codes of its own.
func (a *Authority) keepDevice(ctx context.Context, f deviceFacts) (device, user string, err error) {
	body, err := json.Marshal(f)
	if err != nil {
		return "", "", az.Errorf(az.Internal, "", "").Because(err)
	}
	for range 3 { // another device may have drawn the same code
		device, user = "1."+opaque(codeBytes), newUserCode()
		err = a.store.Write(ctx, func(tx *store.Tx) error {
			return tx.AddDeviceCode(store.DeviceCode{Key: a.keyOf("device", device), UserKey: a.keyOf("user code", user), Status: devicePending,
				Body: body, Expires: az.MicrosOf(a.clock().Add(deviceLife))})
		})
		if !az.Is(err, az.Conflict) {
			break
		}
	}
	return device, user, err
}

func newUserCode() string {
	b := make([]byte, userCodeLength)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userAlphabet))))
		if err != nil { // never: crypto/rand crashes the program instead
			panic(err)
		}
		b[i] = userAlphabet[n.Int64()]
	}
	return string(b)
}

// readUserCode folds what a person typed; "" if it cannot be a code.
func readUserCode(typed string) string {
	if len(typed) > 4*userCodeLength {
		return ""
	}
	s := strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\t", "").Replace(typed))
	if len(s) != userCodeLength || strings.Trim(s, userAlphabet) != "" {
		return ""
	}
	return s
}

func deviceError(code string, number int, text string) error {
	return oauthError(az.Invalid, code, number, "%s", text)
}

// deviceGrant is a device that asks whether it was let in.
func (a *Authority) deviceGrant(ctx context.Context, t *tokenRequest, g *grant) (*evidence, error) {
	code := t.Device.Reveal()
	if code == "" {
		return nil, missing("device_code")
	}
	bad := deviceError("bad_verification_code", 70018, "Invalid verification code: the device code is not one of this authority for this client.")
	if len(code) > maxCode {
		return nil, bad
	}
	key := a.keyOf("device", code)
	row, ok, err := a.store.DeviceCode(ctx, key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, bad
	}
	var f deviceFacts
	if err := json.Unmarshal(row.Body, &f); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	if f.Client != g.Client.AppID {
		return nil, bad
	}
	if az.MicrosOf(a.clock()) >= row.Expires {
		return nil, deviceError("expired_token", 70020, "The provided device code has expired. Begin again and enter the new code.")
	}
	switch row.Status {
	case devicePending:
		if a.polls.tooQuick(key, a.clock()) {
			return nil, deviceError("slow_down", pendingNumber, "The device asks too often; wait for the interval between two questions.")
		}
		return nil, deviceError("authorization_pending", pendingNumber, "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	case deviceDeclined:
		return nil, deviceError("authorization_declined", 70019, "The end user declined the authorization of the device.")
	case deviceUsed:
		return nil, badGrant(54005, "The device code was already redeemed.").Because(incident("a device code came twice"))
	}
	return &evidence{By: f.By, Scope: f.Scope, Resource: f.Resource, Public: g.Client.Facts().PublicClient, settle: a.settleDevice(row, f)}, nil
}

func (a *Authority) settleDevice(row store.DeviceCode, f deviceFacts) func(context.Context, *grant, bool) (string, error) {
	return func(ctx context.Context, g *grant, offline bool) (string, error) {
		fam, err := a.newFamily(g, familyFacts{By: f.By, Scope: f.Scope, Resource: f.Resource, Public: true})
		if err != nil {
			return "", err
		}
		moved := false
		err = a.store.Write(ctx, func(tx *store.Tx) error {
			if moved, err = tx.MoveDeviceCode(row.Key, deviceApproved, deviceUsed, row.Body); err != nil || !moved || !offline {
				return err
			}
			return tx.AddTokenFamily(fam)
		})
		switch {
		case err != nil:
			return "", err
		case !moved:
			return "", badGrant(54005, "The device code was already redeemed.")
		case !offline:
			return "", nil
		}
		return a.refreshText(fam.ID, fam.N), nil
	}
}

// polls remembers when devices asked last, on this plane.
type polls struct {
	mu sync.Mutex // guards m
	m  map[string]*poll
}

type poll struct {
	at    time.Time
	quick int
}

func newPolls() *polls { return &polls{m: map[string]*poll{}} }

// tooQuick notes a question and says whether the device asks too often.
func (p *polls) tooQuick(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m) >= maxThrottled {
		clear(p.m)
	}
	last := p.m[key]
	if last == nil {
		p.m[key] = &poll{at: now}
		return false
	}
	gap := now.Sub(last.at)
	last.at = now
	if gap >= deviceInterval-time.Second { // the network's own delays
		return false
	}
	last.quick++
	return last.quick > quickPolls
}

// nativeClient keeps redirect targets of native apps from being an error page.
func (a *Authority) nativeClient(_ context.Context, r *rest.Request) (any, error) {
	return &rest.Reply{Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte("You may close this window.\n")}, nil
}
