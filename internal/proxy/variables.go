package proxy

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/hawser/hawser/internal/run"
)

// variables are what an app is told of its doors. A kind's own variables go to
// its first connection, the one whose settings have the plain names.
func variables(doors []*opened) []run.Variables {
	var out []run.Variables
	usual := map[Kind]*opened{}
	for _, o := range doors {
		if old := usual[o.conn.up.Kind]; old == nil || !old.conn.plain && o.conn.plain {
			usual[o.conn.up.Kind] = o
		}
		out = append(out, run.Variables{Set: map[string]string{"HAWSER_PROXY_" + upper(o.conn.name): o.where()}})
	}
	for _, o := range doors {
		if usual[o.conn.up.Kind] == o {
			out = append(out, o.usual())
		}
	}
	if len(doors) == 1 && doors[0].addr != "" {
		out = append(out, run.Variables{Set: map[string]string{"DATABASE_URL": doors[0].url()}})
	}
	return out
}

// upper turns a connection's name into a part of a variable's.
func upper(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
}

// usual are the variables that the programs of a protocol read. Those that a
// developer's shell may hold for another server are not inherited.
func (o *opened) usual() run.Variables {
	host, port, _ := net.SplitHostPort(o.addr)
	switch o.conn.up.Kind {
	case Postgres: // PostgreSQL documentation, 34.15
		if o.addr == "" {
			host, port = filepath.Dir(o.socket), "5432"
		}
		return run.Variables{
			Set: map[string]string{"PGHOST": host, "PGPORT": port, "PGUSER": o.conn.up.User, "PGDATABASE": o.conn.up.Database,
				"PGSSLMODE": "disable", "PGGSSENCMODE": "disable"},
			Unless: []string{"PGHOST", "PGPORT", "PGHOSTADDR", "PGSERVICE"},
			Drop: []string{"PGHOSTADDR", "PGSERVICE", "PGPASSWORD", "PGREQUIREAUTH", "PGREQUIRESSL", "PGCHANNELBINDING", "PGSSLNEGOTIATION",
				"PGTARGETSESSIONATTRS", "PGOPTIONS"}}
	case MySQL: // mariadb and mysql read these; the user is any
		v := run.Variables{Set: map[string]string{}, Unless: []string{"MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT"},
			Drop: []string{"MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_PWD"}}
		if o.addr != "" {
			v.Set["MYSQL_HOST"], v.Set["MYSQL_TCP_PORT"] = host, port
		}
		if o.socket != "" {
			v.Set["MYSQL_UNIX_PORT"] = o.socket
		}
		return v
	case Redis: // redis-cli reads none of them but the password: redis-cli -u $REDIS_URL
		v := run.Variables{Set: map[string]string{"REDIS_URL": o.url()}, Unless: []string{"REDIS_URL", "REDIS_HOST", "REDIS_PORT"},
			Drop: []string{"REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDISCLI_AUTH"}}
		if o.addr == "" {
			u := url.URL{Scheme: "unix", Path: o.socket, RawQuery: url.Values{"db": {o.conn.up.Database}}.Encode()}
			v.Set["REDIS_URL"] = u.String()
			return v
		}
		v.Set["REDIS_HOST"], v.Set["REDIS_PORT"] = host, port
		return v
	case SQLServer: // sqlcmd; its -N must be disable or optional
		return run.Variables{
			Set: map[string]string{"SQLCMDSERVER": "tcp:" + host + "," + port, "SQLCMDDBNAME": o.conn.up.Database,
				"SQLCMDUSER": anybody, "SQLCMDPASSWORD": anybody},
			Unless: []string{"SQLCMDSERVER", "SQLCMDUSER"}}
	}
	return run.Variables{}
}
