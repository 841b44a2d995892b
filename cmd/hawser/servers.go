package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hawser/hawser/client"
)

// serverKind is a kind of database server, with all that commands know of it.
type serverKind struct {
	word    string // az's, of --type
	typ     string // ARM's
	what    string // for people
	door    string // of its gateway
	schemes []string
	port    int    // if a URL names none
	login   string // the role that lets somebody log in; "" where an access policy does
}

// serverKinds are the servers that have a gateway.
var serverKinds = []*serverKind{
	{word: "postgres-flexible", typ: typePostgres, what: "PostgreSQL", door: "pg", schemes: []string{"postgres", "postgresql"}, port: 5432, login: "PostgreSQL Login"},
	{word: "mysql-flexible", typ: typeMySQL, what: "MySQL", door: "mysql", schemes: []string{"mysql", "mariadb"}, port: 3306, login: "MySQL Login"},
	{word: "sql", typ: typeSQL, what: "SQL Server", door: "tds", schemes: []string{"sqlserver", "mssql"}, port: 1433, login: "SQL Server Login"},
	{word: "redis", typ: typeRedis, what: "Redis", door: "redis", schemes: []string{"redis", "rediss"}, port: 6379},
}

// hasDatabases reports whether the databases of such servers are resources.
func (k *serverKind) hasDatabases() bool { return k.typ != typeRedis }

// kindOfScheme finds the kind of server that a URL means.
func kindOfScheme(scheme string) *serverKind {
	for _, k := range serverKinds {
		if slices.Contains(k.schemes, scheme) {
			return k
		}
	}
	return nil
}

// serverNamed finds the server that a command names, among all kinds.
func serverNamed(ctx context.Context, c *client.Client, name string) (*serverKind, string, error) {
	types := make([]string, len(serverKinds))
	for i, k := range serverKinds {
		types[i] = k.typ
	}
	found, err := typesOf(ctx, c, name, types)
	if err != nil {
		return nil, "", err
	}
	switch len(found) {
	case 0:
		return nil, "", fmt.Errorf("there is no database server %q; attach it with hawser attach, or check its name", name)
	case 1:
		k := serverKinds[slices.Index(types, found[0])]
		return k, id(c, k.typ, name), nil
	}
	return nil, "", usageError{fmt.Errorf("%q is the name of several servers; say which by its id: %s", name, strings.Join(idsOf(c, found, name), ", "))}
}

// typesOf lists which of some types have a resource of a name. A type that the
// caller may not read has none for him.
func typesOf(ctx context.Context, c *client.Client, name string, types []string) ([]string, error) {
	var found []string
	for _, typ := range types {
		if strings.HasPrefix(name, "/") {
			if strings.Contains(strings.ToLower(name)+"/", "/providers/"+strings.ToLower(typ)+"/") {
				return []string{typ}, nil
			}
			continue
		}
		err := c.Get(ctx, id(c, typ, name), nil)
		switch {
		case err == nil:
			found = append(found, typ)
		case client.IsStatus(err, http.StatusNotFound), client.IsStatus(err, http.StatusForbidden), client.IsStatus(err, http.StatusBadRequest): // not every name is one of every type
		default:
			return nil, err
		}
	}
	return found, nil
}

func idsOf(c *client.Client, types []string, name string) []string {
	var out []string
	for _, typ := range types {
		out = append(out, id(c, typ, name))
	}
	return out
}
