package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// graphQuery is one list as clients ask for it.
type graphQuery struct {
	what  string
	paths func(g *graphPlane) []string
	find  string // what a good reply holds
}

// graphPlane is a plane with a crowd, and what its lists are asked for.
type graphPlane struct {
	*plane
	crowd
	first, team string
	token       string
}

// graphQueries ask for the same numbers of objects whatever the crowd's size.
func graphQueries() []graphQuery {
	one := func(path string) func(*graphPlane) []string {
		return func(*graphPlane) []string { return []string{path} }
	}
	many := func(format string) func(*graphPlane) []string { // of people all over the directory
		return func(g *graphPlane) (out []string) {
			for i := range 64 {
				out = append(out, strings.ReplaceAll(format, "~~", fmt.Sprintf("%06d", i*(g.people/64))))
			}
			return out
		}
	}
	filter := func(s string) string { return "/users?$filter=" + url.PathEscape(s) }
	return []graphQuery{
		{"one user by name", func(g *graphPlane) []string { return many("/users/p~~@" + g.about.Domain)(g) }, `"userPrincipalName":"p`},
		{"users, a page of 100", one("/users"), `"@odata.nextLink"`},
		{"users, userPrincipalName eq", func(g *graphPlane) []string {
			return many(filter("userPrincipalName eq 'p~~@" + g.about.Domain + "'"))(g)
		}, `"value":[{`},
		{"users, startswith(displayName), 10 found", one(filter("startswith(displayName,'Person 00012')")), `"Person 000129"`},
		{"users/$count", one("/users/$count"), "00"},
		{"users, $search by name, 1 found", one("/users?$search=" + url.PathEscape(`"displayName:001234"`)), `"Person 001234"`},
		{"group of 1,000, a page of 100 members", func(g *graphPlane) []string { return []string{"/groups/" + g.team + "/members"} }, `"@odata.nextLink"`},
		{"transitiveMemberOf in 200 nested groups", func(g *graphPlane) []string { return []string{"/users/" + g.first + "/transitiveMemberOf?$top=999"} }, `"Group 00199"`},
	}
}

// graphPart measures lists over HTTPS beside a bare server with replies of the
// same size, and beside the same lists of a small directory.
func graphPart(b *bench) error {
	small, err := b.graphPlane("small", crowd{2000, 200})
	if err != nil {
		return err
	}
	large, err := b.graphPlane("large", crowd{envInt("BENCH_USERS", 100_000), envInt("BENCH_GROUPS", 10_000)})
	if err != nil {
		return err
	}
	b.time /= 3 // three measurements a line
	cert := filepath.Join(b.dir, "sized.pem")
	floor, err := b.startFloor("sized", cert)
	if err != nil {
		return err
	}
	for _, q := range graphQueries() {
		try, err := b.run(large.load(q, 1))
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		if !strings.Contains(try.Body, q.find) {
			return fmt.Errorf("%s: the reply lacks %s: %s", q.what, q.find, try.Body)
		}
		bare := load{Addr: floor.ready, TLS: "localhost", CA: cert, Conns: 16, PIDs: []int{floor.pid()}, Requests: []string{get("localhost", fmt.Sprintf("/%d", len(try.Body)))}}
		var few []result
		ours, limit, err := b.turns(func() (result, error) {
			r, err := b.run(small.load(q, 16))
			if err != nil {
				return r, err
			}
			few = append(few, r)
			return b.run(large.load(q, 16))
		}, func() (result, error) { return b.run(bare) })
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		before := b.middle("small", few)
		b.add(row{What: q.what, Ours: ours.rate("/s"), Limit: fmt.Sprintf("net/http, %s bytes: %s", count(float64(len(try.Body))), limit.rate("/s")), Ratio: ours.Rate / limit.Rate, CPU: cpuRatio(ours, limit),
			Target: "flat within 1.3 ×", Peer: fmt.Sprintf("with %s %s/s, %.2f ×", small.name(), count(before.Rate), before.Rate/ours.Rate)}, before.Rate/ours.Rate <= 1.3)
	}
	rss := residentKiB(large.server.pid()) / 1024
	b.add(row{What: fmt.Sprintf("memory with %s and %s groups", large.name(), count(float64(large.groups))), Ours: fmt.Sprintf("%.0f MiB", rss), Limit: fmt.Sprintf("with %s %.0f MiB", small.name(), residentKiB(small.server.pid())/1024)}, true)
	return nil
}

func (b *bench) graphPlane(name string, c crowd) (*graphPlane, error) {
	g := &graphPlane{crowd: c}
	var err error
	if g.plane, g.first, g.team, err = b.startCrowd(name, c); err != nil {
		return nil, err
	}
	g.token, err = g.adminToken("https://graph.microsoft.com")
	return g, err
}

func (g *graphPlane) load(q graphQuery, conns int) load {
	_, port, _ := strings.Cut(g.about.Listen, ":")
	l := load{Addr: g.about.Listen, TLS: "graph." + g.about.Domain, CA: g.about.CAFile, Conns: conns, PIDs: []int{g.server.pid()}}
	for _, p := range q.paths(g) {
		l.Requests = append(l.Requests, get(l.TLS+":"+port, "/v1.0"+p, "Authorization: Bearer "+g.token, "ConsistencyLevel: eventual"))
	}
	return l
}
