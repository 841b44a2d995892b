package connector

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// redisPlace is where the real server of a cache is. Azure has no words for it.
type redisPlace struct {
	// URL is redis://user:password@host:port or rediss://…, all in one. It is
	// taken apart and never stored.
	URL           string `json:"url,omitempty"`
	Host          string `json:"host,omitempty"`
	Port          int    `json:"port,omitempty"`
	SSLMode       string `json:"sslMode,omitempty"`
	CACertificate string `json:"caCertificate,omitempty"` // PEM
	// Unproved: as realServer's.
	Unproved bool `json:"unproved,omitempty"`
}

const (
	// ownerSecret is the owner's password among a cache's Secrets.
	ownerSecret = "owner"
	// aadEnabled is the setting that lets tokens in.
	aadEnabled = "aad-enabled"
	redisPlain = 6379
)

// placeRedis finds out where the real server is: what the body says, else what
// the tag says, else where it is already, else nowhere.
func (c *Connector) placeRedis(ctx context.Context, call *arm.Call, r, old *arm.Resource[redisProperties]) error {
	p, tag := &r.Properties, tagOf(r.Tags)
	if p.Hawser != nil && p.Hawser.Host == "" && p.Hawser.URL == "" {
		p.Hawser = nil
	}
	var was *redisPlace
	if old != nil {
		was = old.Properties.Hawser
		p.Login = orText(p.Login, old.Properties.Login)
	}
	switch {
	case p.Hawser != nil:
		h := *p.Hawser // the one given may be another resource's
		p.Hawser = &h
	case tag != "" && (old == nil || tag != tagOf(old.Tags)):
		p.Hawser = &redisPlace{URL: tag}
		u, err := url.Parse(tag)
		if err != nil || u.User != nil {
			return az.Errorf(az.Invalid, "InvalidServerURL", "The tag %s must hold redis://host:port or rediss://host:port. Whoever reads the cache reads its tags: give login and password as administratorLogin and administratorLoginPassword.", backendTag)
		}
	case was != nil:
		h := *was
		p.Hawser = &h
	default:
		p.Password = "" // there is nobody to tell it to
		return nil
	}
	again, err := p.takeOwner(r)
	if err != nil {
		return err
	}
	return c.adoptRedis(ctx, call, r, old, again)
}

// takeOwner moves the owner's password to the resource's Secrets and takes a
// URL apart. given: the body brought a password.
func (p *redisProperties) takeOwner(r *arm.Resource[redisProperties]) (given bool, err error) {
	h := p.Hawser
	if h.URL != "" {
		if err := p.takeURL(); err != nil {
			return false, err
		}
	}
	p.Login = orText(p.Login, defaultRedisUser)
	h.SSLMode, h.Unproved = orText(h.SSLMode, sslPrefer), false
	if h.Port == 0 {
		h.Port = redisPlain
	}
	if p.Password != "" {
		if r.Secrets == nil {
			r.Secrets = map[string]az.Secret{}
		}
		r.Secrets[ownerSecret] = az.NewSecret(p.Password)
		p.Password, given = "", true
	}
	return given, nil
}

func (p *redisProperties) takeURL() error {
	h := p.Hawser
	bad := az.Errorf(az.Invalid, "InvalidServerURL", "The server's URL must have the form redis://user:password@host:port or rediss://user:password@host:port; in a name or password, write characters such as @ : / as %%40 %%3A %%2F.")
	u, err := url.Parse(h.URL)
	h.URL = ""
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" {
		return bad // the cause would hold the URL
	}
	h.Host = u.Hostname()
	if port := u.Port(); port != "" {
		if h.Port, err = strconv.Atoi(port); err != nil {
			return bad
		}
	}
	if h.SSLMode == "" {
		if h.SSLMode = sslDisable; u.Scheme == "rediss" {
			h.SSLMode = sslVerifyFull
		}
	}
	for k, v := range u.Query() {
		if k != "sslmode" {
			return az.Errorf(az.Invalid, "InvalidServerURL", "The parameter %q of the server's URL is not served here; give a CA as caCertificate.", k)
		}
		h.SSLMode = v[0]
	}
	if u.User != nil {
		if name := u.User.Username(); name != "" {
			p.Login = name
		}
		if password, ok := u.User.Password(); ok {
			p.Password = password
		}
	}
	return nil
}

// adoptRedis looks at the real server, if it is another one than before or is
// reached in another way.
func (c *Connector) adoptRedis(ctx context.Context, call *arm.Call, r, old *arm.Resource[redisProperties], again bool) error {
	p := &r.Properties
	b := redisBackendOf(r)
	if err := b.check(); err != nil {
		return err
	}
	if old != nil && old.Properties.Hawser != nil {
		before := redisBackendOf(old)
		if b.same(before) {
			p.Version, p.Hawser.Unproved = old.Properties.Version, before.Unproved
			return nil // a change of something else must work while the server is away
		}
		if !again {
			return az.Errorf(az.Invalid, "PasswordNeeded", "Give administratorLoginPassword again to change where the server is or how it is reached: a password that is kept here is not sent to another server.")
		}
	}
	version, err := b.adopt(ctx)
	if errors.Is(err, errNoProof) { // see adoptAs
		if err = call.Check(ctx, actionGive, az.Root); err == nil {
			b.Unproved = true
			version, err = b.adopt(ctx)
		}
	}
	if err != nil {
		return err
	}
	p.Version, p.Hawser.SSLMode, p.Hawser.Unproved = version, b.SSLMode, b.Unproved
	return nil
}

func (b *redisBackend) same(o *redisBackend) bool {
	was, now := backend{Host: b.Host, Port: b.Port, SSLMode: b.SSLMode, RootCert: b.RootCert, Owner: b.User, Password: b.Password},
		backend{Host: o.Host, Port: o.Port, SSLMode: o.SSLMode, RootCert: o.RootCert, Owner: o.User, Password: o.Password}
	return was.same(&now)
}

func redisBackendOf(r *arm.Resource[redisProperties]) *redisBackend {
	h := r.Properties.Hawser
	return &redisBackend{Host: h.Host, Port: h.Port, SSLMode: h.SSLMode, RootCert: h.CACertificate, User: orText(r.Properties.Login, defaultRedisUser), Password: r.Secrets[ownerSecret], Unproved: h.Unproved}
}

// redisServer reads a cache with its owner's credential.
func (c *Connector) redisServer(ctx context.Context, id az.ID) (*redisBackend, error) {
	r, err := c.redis.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The cache '%s' was not found. Attach it, or check its name and resource group.", id.Name())
	}
	if r.Properties.Hawser == nil {
		return nil, redisWithoutBackend(id.Name())
	}
	return redisBackendOf(r), nil
}

func redisWithoutBackend(name string) error {
	return az.Errorf(az.Invalid, "ServerHasNoBackend", "No real Redis server stands behind '%s', which is a description only: name one with hawser attach, or with the tag %s.", name, backendTag)
}

// redisSettingsOf reads redisConfiguration, whose values are text on Azure.
func redisSettingsOf(raw json.RawMessage) (map[string]any, error) {
	m := map[string]any{}
	if len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, az.Errorf(az.Invalid, "InvalidRequestBody", "properties.redisConfiguration must be an object.")
		}
	}
	return m, nil
}

// takesRedisTokens reports whether tokens let anybody in: aad-enabled, which a
// cache has here unless a body says otherwise, for else nobody could come in.
func takesRedisTokens(raw json.RawMessage) bool {
	m, err := redisSettingsOf(raw)
	if err != nil {
		return false
	}
	switch v := m[aadEnabled].(type) {
	case nil:
		return true
	case bool:
		return v
	case string:
		return strings.EqualFold(v, "true")
	}
	return false
}

// checkRedisSettings refuses a value of aad-enabled that is no word of Azure's.
func checkRedisSettings(p *redisProperties) error {
	m, err := redisSettingsOf(p.Configuration)
	if err != nil {
		return err
	}
	switch v := m[aadEnabled].(type) {
	case nil, bool:
		return nil
	case string:
		if strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
			return nil
		}
	}
	return az.Errorf(az.Invalid, "InvalidRequestBody", "redisConfiguration.aad-enabled must be true or false.")
}

// shownRedisSettings is redisConfiguration as Azure shows it.
func shownRedisSettings(raw json.RawMessage) map[string]any {
	m, err := redisSettingsOf(raw)
	if err != nil {
		m = map[string]any{}
	}
	m[aadEnabled] = map[bool]string{true: "True", false: "False"}[takesRedisTokens(raw)]
	return m
}
