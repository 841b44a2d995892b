package directory

import (
	"context"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestFilters(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		made := map[string]string{}
		for _, u := range []Object{
			{Name: "Ann O'Hara", UPN: "ann@hawser.localhost", Enabled: true, Facts: Facts{Mail: "Ann@Example.com", GivenName: "Ann"}},
			{Name: "Bob 50%_x", UPN: "bob@hawser.localhost", Enabled: false, Facts: Facts{Profile: map[string]string{"department": "Sales"}}},
			{Name: "Émile Zola", UPN: "emile@hawser.localhost", Enabled: true},
		} {
			w.write(func(tx *store.Tx) error {
				o, err := w.AddUser(tx, u, "")
				if err == nil {
					made[o.ID] = u.UPN[:1]
				}
				return err
			})
		}
		for _, c := range []struct{ filter, want string }{
			{"displayName eq 'ann o''hara'", "a"},
			{"displayName ne 'ann o''hara'", "be"},
			{"startswith(displayName,'É')", "e"},
			{"startsWith(userPrincipalName, 'b')", "b"},
			{"startswith(mail,'ann@')", "a"},
			{"mail eq 'ANN@example.com'", "a"},
			{"mail eq null", "be"},
			{"mail ne null", "a"},
			{"not(mail eq null)", "a"},
			{"givenName eq 'ann'", "a"},
			{"department eq 'sales' or displayName eq 'Émile Zola'", "be"},
			{"accountEnabled eq true", "ae"},
			{"accountEnabled eq false and startswith(displayName,'B')", "b"},
			{"not (accountEnabled eq true) or givenName eq 'Ann'", "ab"},
			{"endswith(userPrincipalName,'@hawser.localhost')", "abe"},
			{"contains(displayName,'50%_')", "b"},
			{"contains(displayName,'%')", "b"},
			{"contains(displayName,'!')", ""},
			{"userPrincipalName in ('ann@hawser.localhost', 'EMILE@hawser.localhost')", "ae"},
			{"createdDateTime gt 2001-01-01T00:00:00Z", "abe"},
			{"createdDateTime le 2001-01-01", ""},
			{"displayName ge 'b'", "be"},
			{"displayName lt 'b'", "a"},
			{"(displayName eq 'x' or (displayName eq 'Émile Zola' and accountEnabled eq true))", "e"},
			{"id eq '" + az.NewGUID() + "'", ""},
		} {
			got := ""
			for _, id := range ids(g.want(200, "GET", "/users?$orderby=displayName&$filter="+escape(c.filter), nil)) {
				got += made[id]
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.filter, got, c.want)
			}
			n := g.text("/users/$count?$filter=" + escape(c.filter))
			if n != string(rune('0'+len(c.want))) {
				t.Errorf("%s: counted %s", c.filter, n)
			}
		}
		for _, c := range []struct{ search, want string }{
			{`"displayName:hara"`, "a"}, {`"displayName:ann" OR "displayName:zola"`, "ae"}, {`"displayName:ann" AND "mail:zola"`, ""},
			{`"displayName:O'H"`, "a"}, {`"displayName:50%"`, "b"}, {`"displayName:x' or 1=1 --"`, ""}, {`"userPrincipalName:emi"`, "e"},
		} {
			got := ""
			for _, id := range ids(g.want(200, "GET", "/users?$orderby=displayName&$search="+escape(c.search), nil)) {
				got += made[id]
			}
			if got != c.want {
				t.Errorf("search %s: %q, want %q", c.search, got, c.want)
			}
		}
	})
}

// What is no filter, or too much of one, is refused before anything is read.
func TestFilterBombs(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	g := newGraph(w)
	for _, q := range []string{
		"$filter=" + escape(strings.Repeat("(", 500)+"id eq 'x'"+strings.Repeat(")", 500)),
		"$filter=" + escape(strings.Repeat("not ", 900)+"id eq 'x'"),
		"$filter=" + escape("id eq 'x'"+strings.Repeat(" or id eq 'x'", 200)),
		"$filter=" + escape("id in ("+strings.Repeat("'x',", 300)+"'x')"),
		"$filter=" + escape("displayName eq '"+strings.Repeat("x", 5000)+"'"),
		"$filter=" + escape("displayName eq 'x"), "$filter=" + escape("displayName eq"), "$filter=eq", "$filter=" + escape("and and and"),
		"$filter=" + escape("displayName eq 'x' drop"), "$filter=" + escape("passwordProfile eq null"), "$filter=" + escape("displayName/any(x:x eq 'a')"),
		"$filter=" + escape("businessPhones/any(x:x eq 'a')"), "$filter=" + escape("startswith(displayName,5)"), "$filter=" + escape("body eq 'x'"),
		"$filter=" + escape("displayName eq displayName"), "$filter=" + escape("id in ()"),
		"$search=displayName:x", "$search=" + escape(`"x"`), "$search=" + escape(`"body:x"`), "$search=" + escape(strings.Repeat(`"displayName:x" OR `, 20)+`"displayName:x"`),
		"$orderby=body", "$orderby=" + escape("displayName; drop"), "$orderby=accountEnabled", "$top=1000", "$top=x", "$count=maybe", "$skip=5", "$select=" + escape("id,'"),
		"$expand=" + escape("members($filter=x)"), "$expand=everything", "$top=1&$top=2", "$skiptoken=AAAA",
	} {
		status, out := g.call("GET", "/users?"+q, nil)
		if e, _ := out["error"].(object); status != 400 || e["code"] != "Request_UnsupportedQuery" {
			t.Errorf("%.80s: %d %v", q, status, out)
		}
	}
}

// The store's answer and our own reading of a filter must be the same.
func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"displayName eq 'x'", "startswith(displayName,'it''s') and appId eq 'y'", "servicePrincipalNames/any(c:c eq 'z')", "accountEnabled eq true",
		"a eq '", "and", "startswith(,", "not(id in ('a','b'))", "createdDateTime ge 2026-01-31T00:00:00Z", "tags/any(t:startswith(t,'a') or t eq 'b')", "identifierUris/any()",
		"contains(displayName,'%') or mail eq null", "((((((("} {
		f.Add(s)
	}
	st, err := store.Open(context.Background(), store.Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	d := New(Config{Store: st})
	objects := []*Object{{ID: az.NewGUID(), Kind: az.User, Name: "x", UPN: "x@y", Enabled: true, Created: 1}, {ID: "b", Kind: az.User, Name: "it's", Facts: Facts{Mail: "a%"}},
		{ID: "a", Kind: az.User, Name: "É%_!"}}
	for _, o := range objects {
		err := st.Write(context.Background(), func(tx *store.Tx) error {
			r, err := o.row()
			if err != nil {
				return err
			}
			o.Created = tx.Now()
			return tx.InsertObject(r)
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseFilter(s)
		if err != nil && !az.Is(err, az.Invalid) {
			t.Fatal(err)
		}
		if err != nil || n == nil {
			return
		}
		for _, sc := range d.schemas {
			if n.check(sc, false) != nil || sc.kind != az.User {
				continue
			}
			k, err := d.narrow(context.Background(), n, sc)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := st.ListObjects(context.Background(), store.ObjectList{Kinds: []string{"User"}, Where: k.cond})
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			found := map[string]bool{}
			for _, r := range rows {
				found[r.ID] = true
			}
			for _, o := range objects {
				matches := n.matches(d.viewer(context.Background()), o)
				if matches && !found[o.ID] || k.exact && !matches && found[o.ID] {
					t.Errorf("%q: %s matches %v, the store finds it: %v (exact %v)", s, o.ID, matches, found[o.ID], k.exact)
				}
			}
		}
	})
}

func FuzzBatch(f *testing.F) {
	for _, s := range []string{`{"requests":[{"id":"1","method":"GET","url":"/users"}]}`, `{"requests":[{"id":"1","method":"GET","url":"/a","dependsOn":["2"]},{"id":"2","method":"POST","url":"b","body":{},"dependsOn":["1"]}]}`,
		`{"requests":null}`, `[]`, `{"requests":[{"id":"1","method":"get","url":"http://x/","headers":{"a":"b"}}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := parseBatch(b)
		if err != nil && !az.Is(err, az.Invalid) {
			t.Fatal(err)
		}
		done := map[string]bool{}
		for _, it := range items {
			for _, dep := range it.DependsOn {
				if !done[dep] {
					t.Fatalf("%s comes before %s", it.ID, dep)
				}
			}
			done[it.ID] = true
		}
		if len(items) > maxBatch {
			t.Fatal("too many")
		}
	})
}

func FuzzSearch(f *testing.F) {
	for _, s := range []string{`"displayName:x"`, `"displayName:x" AND "mail:y"`, `"a`, `"displayName:\"" OR "displayName:b"`} {
		f.Add(s)
	}
	s := newSchemas()[az.User]
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseSearch(text, s, false)
		if err != nil && !az.Is(err, az.Invalid) {
			t.Fatal(err)
		}
		q := &query{search: got}
		q.narrowSearch(s)
	})
}
