package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// frontPart measures requests to an app behind built-in authentication, beside
// the standard library's reverse proxy to the same app.
func frontPart(b *bench) error {
	p, _, _, err := b.startCrowd("plane", crowd{1000, 200})
	if err != nil {
		return err
	}
	if err := p.each([]string{"app", "create", "desk"}); err != nil {
		return err
	}
	app, err := serve(b.hawser, "run", "desk", "--data", p.dir, "--auth", "--", b.floor, "app")
	if err != nil {
		return err
	}
	b.after(app.stop)
	cert := filepath.Join(b.dir, "proxy.pem")
	proxy, err := b.startFloor("proxy", "http://"+app.ready, cert)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(p.about.Listen, ":")
	host := "desk.sites." + p.about.Domain
	session, err := p.frontSession("https://" + host + ":" + port + "/")
	if err != nil {
		return err
	}
	bearer, err := p.frontBearer()
	if err != nil {
		return err
	}
	for _, c := range []struct{ what, header string }{{"with a session", session}, {"with a bearer token", "Authorization: Bearer " + bearer}} {
		ours := load{Addr: p.about.Listen, TLS: host, CA: p.about.CAFile, Conns: 16, PIDs: []int{p.server.pid()}, Requests: []string{get(host+":"+port, "/", c.header)}}
		// The proxy gets the same bytes, and passes them on unread.
		plain := load{Addr: proxy.ready, TLS: "localhost", CA: cert, Conns: 16, PIDs: []int{proxy.pid()}, Requests: []string{get("localhost", "/", c.header)}}
		o, l, err := b.turns(func() (result, error) { return b.run(ours) }, func() (result, error) { return b.run(plain) })
		if err != nil {
			return err
		}
		b.add(row{What: "app behind sign-in, " + c.what + ", 16 conn", Ours: o.rate("/s"), Limit: "httputil.ReverseProxy " + l.rate("/s"), Ratio: o.Rate / l.Rate, CPU: cpuRatio(o, l)}, true)
	}
	return nil
}

// frontSession signs a person in to the app; the result is the browser's
// Cookie header.
func (p *plane) frontSession(address string) (string, error) {
	t, err := p.web()
	if err != nil {
		return "", err
	}
	w, err := p.browser(t, p.upn(0))
	if err != nil {
		return "", err
	}
	at, err := w.arrive(p.b.ctx, address)
	if err != nil {
		return "", err
	}
	if at.left || at.code != http.StatusOK {
		return "", fmt.Errorf("the sign-in ends at %s: %d %s", at.url, at.code, at.body)
	}
	return w.cookies(address)
}

// frontBearer is another application's token for the app.
func (p *plane) frontBearer() (string, error) {
	caller, err := p.register("Caller", 3)
	if err != nil {
		return "", err
	}
	out, err := p.cli("app", "settings", "desk", "--reveal", "--output", "json")
	if err != nil {
		return "", err
	}
	var settings []struct{ Name, Value string }
	if err := json.Unmarshal([]byte(out), &settings); err != nil {
		return "", err
	}
	id := ""
	for _, s := range settings {
		if s.Name == "WEBSITE_AUTH_CLIENT_ID" {
			id = s.Value
		}
	}
	t, err := p.web()
	if err != nil {
		return "", err
	}
	_, port, _ := strings.Cut(p.about.Listen, ":")
	c := &http.Client{Transport: t, Timeout: 10 * time.Second}
	resp, err := c.PostForm("https://login."+p.about.Domain+":"+port+"/"+p.about.TenantID+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"},
		"client_id": {caller.AppID}, "client_secret": {caller.secret}, "scope": {"api://" + id + "/.default"}})
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var token struct {
		Access string `json:"access_token"`
		About  string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.Access == "" {
		return "", fmt.Errorf("no token for the app: %s (%w)", token.About, err)
	}
	return token.Access, nil
}
