package easyauth

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const (
	// tokenTimeout bounds one request to the token endpoint of this plane.
	tokenTimeout = 20 * time.Second
	// maxTokenReply bounds its answer: three tokens of at most 16 KiB.
	maxTokenReply = 128 << 10
)

// tokens are what the authority gave for a sign-in.
type tokens struct {
	ID, Access, Refresh string
	Expires             time.Time // of Access
}

// String hides the tokens.
func (tokens) String() string { return az.Redacted }

// GoString hides the tokens.
func (tokens) GoString() string { return az.Redacted }

// authorityURL is an endpoint of this plane's authority, as browsers reach it.
func (f *Front) authorityURL(endpoint string) string {
	return f.cfg.Names.Origin(az.SurfaceLogin) + "/" + f.cfg.Names.Tenant + "/oauth2/v2.0/" + endpoint
}

// ask sends a grant to the token endpoint as the app's registration.
func (v *visit) ask(ctx context.Context, form url.Values) (tokens, error) {
	secret, err := v.secret(ctx)
	if err != nil {
		return tokens{}, err
	}
	form.Set("client_id", v.set.Client)
	form.Set("client_secret", secret.Reveal())
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.f.authorityURL("token"), strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := (&http.Client{Transport: v.f.cfg.Login}).Do(req)
	if err != nil {
		return tokens{}, az.Errorf(az.Unavailable, "ServiceUnavailable", "The plane's token authority does not answer. Try again.").Because(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenReply))
	if err != nil {
		return tokens{}, az.Errorf(az.Unavailable, "ServiceUnavailable", "The plane's token authority does not answer. Try again.").Because(err)
	}
	return v.readTokens(resp.StatusCode, body)
}

func (v *visit) readTokens(status int, body []byte) (tokens, error) {
	var out struct {
		ID      string      `json:"id_token"`
		Access  string      `json:"access_token"`
		Refresh string      `json:"refresh_token"`
		Expires json.Number `json:"expires_in"`
		Error   string      `json:"error"`
		Text    string      `json:"error_description"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return tokens{}, az.Errorf(az.Unavailable, "ServiceUnavailable", "The plane's token authority gave no usable answer. Try again.").Because(err)
	}
	if status != http.StatusOK {
		text, _, _ := strings.Cut(out.Text, "\n") // its first line says what; the rest are ids of the request
		text, _, _ = strings.Cut(text, " Trace ID")
		return tokens{}, az.Errorf(az.Forbidden, printable(out.Error, 64), "The sign-in was not completed: %s", printable(text, 400))
	}
	n, _ := out.Expires.Int64()
	return tokens{ID: out.ID, Access: out.Access, Refresh: out.Refresh, Expires: v.f.cfg.Clock().Add(time.Duration(n) * time.Second)}, nil
}

// secret reads the registration's client secret out of the app's settings.
func (v *visit) secret(ctx context.Context) (az.Secret, error) {
	s, err := v.f.cfg.Setting(ctx, v.site.ID, v.set.Secret)
	if err == nil && s.IsZero() {
		err = az.Errorf(az.Forbidden, "Misconfigured", "The app's setting that holds its client secret is empty or missing, so nobody can sign in. Run 'hawser run APP --auth' once, or set it.")
	}
	return s, err
}

// printable makes a stranger's text fit for a page and a log.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
