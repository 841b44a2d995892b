package proxy

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// kindsOfSchemes are the schemes of URLs, and where a door of that kind
// listens if nobody says.
var kindsOfSchemes = map[string]struct {
	kind  Kind
	local string
}{
	"postgres": {Postgres, "5432"}, "postgresql": {Postgres, "5432"},
	"mysql": {MySQL, "3306"}, "mariadb": {MySQL, "3306"},
	"sqlserver": {SQLServer, "1433"},
	"rediss":    {Redis, "6379"},
}

// urlForms are in every complaint about a URL.
const urlForms = "postgres://ROLE@SERVER/DATABASE, mysql://USER@SERVER/DATABASE, sqlserver://SERVER?database=NAME or rediss://CACHE:6380"

// ParseURL reads a database's URL. It holds no password: the token takes its
// place.
func ParseURL(text string) (Upstream, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Upstream{}, fmt.Errorf("cannot read the URL of a database; it should look like %s", urlForms)
	}
	s, ok := kindsOfSchemes[strings.ToLower(u.Scheme)]
	if !ok || u.Hostname() == "" || u.Fragment != "" {
		return Upstream{}, fmt.Errorf("cannot use %s: a database's URL looks like %s", u.Redacted(), urlForms)
	}
	if _, has := u.User.Password(); has {
		return Upstream{}, fmt.Errorf("cannot use %s: it holds a password; leave it out, a token takes its place", u.Redacted())
	}
	q := u.Query()
	p, _ := protocolOf(s.kind)
	up := Upstream{Kind: s.kind, Name: u.Hostname(), Host: u.Hostname(), User: u.User.Username(),
		Addr:     net.JoinHostPort(u.Hostname(), first(u.Port(), p.port)),
		Database: first(strings.Trim(u.Path, "/"), q.Get("database"), q.Get("db"))}
	for name := range q {
		switch name {
		case "database", "db", "sslmode", "ssl-mode", "tls", "encrypt":
		default:
			return Upstream{}, fmt.Errorf("cannot use %s: it has a parameter %q that means nothing here", u.Redacted(), name)
		}
	}
	for _, name := range []string{"sslmode", "ssl-mode", "tls", "encrypt"} {
		switch strings.ToLower(q.Get(name)) {
		case "disable", "disabled", "allow", "prefer", "preferred", "optional", "false":
			return Upstream{}, fmt.Errorf("cannot use %s: a token travels by verified TLS only; leave %s out", u.Redacted(), name)
		}
	}
	return up, nil
}

// audience is what a token for the database must be for, in the cloud that its
// name lies in.
func (u *Upstream) audience() string {
	p, _ := protocolOf(u.Kind)
	from := "windows.net"
	switch (az.Names{}).Classify(u.Host).Cloud {
	case az.China:
		return strings.Replace(p.audience, from, "chinacloudapi.cn", 1)
	case az.USGov:
		return strings.Replace(p.audience, from, "usgovcloudapi.net", 1)
	}
	return p.audience
}
