package directory

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// defaultTop and maxTop are Graph's page sizes.
	defaultTop = 100
	maxTop     = 999
	// maxSelect bounds $select; the largest kind has 30 properties.
	maxSelect = 64
	// maxToken bounds a $skiptoken: a name of 1,024 bytes, an id and a hash.
	maxToken = 4096
	// maxSearch bounds $search and the words of it.
	maxSearch      = 1024
	maxSearchWords = 10
	// maxExpand is how many related objects $expand shows of each. Source:
	// Microsoft Graph, "returns up to 20 items for the expanded relationship".
	maxExpand = 20
)

// query is what the query parameters of a request ask for.
type query struct {
	filter  *node
	search  [][]searchWord // any of all of
	sel     []string       // $select in lower case; nil if there is none
	expand  []expansion
	sort    store.Field
	desc    bool
	top     int
	count   bool
	after   *store.Object // from $skiptoken
	binding string        // what a $skiptoken belongs to
}

type expansion struct {
	name string // as the client wrote it
	sel  []string
}

func badQuery(format string, args ...any) error {
	return az.Errorf(az.Invalid, "Request_UnsupportedQuery", format, args...)
}

// params reads the query without url.Values' forgiveness: each parameter once.
func params(raw string) (map[string]string, error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The request's query cannot be read.")
	}
	out := map[string]string{}
	for k, list := range v {
		name := strings.ToLower(strings.TrimPrefix(k, "$"))
		if _, twice := out[name]; twice || len(list) > 1 {
			return nil, badQuery("A query parameter is given twice.")
		}
		if !utf8.ValidString(list[0]) || strings.ContainsFunc(list[0], unicode.IsControl) {
			return nil, badQuery("A query parameter holds characters that it cannot have.")
		}
		out[name] = list[0]
	}
	return out, nil
}

// parseQuery reads the options for a list of a kind, or for one object.
func (d *Directory) parseQuery(raw, path string, s *schema, basic bool) (*query, error) {
	p, err := params(raw)
	if err != nil {
		return nil, err
	}
	q := &query{top: defaultTop, binding: strings.Join([]string{path, p["filter"], p["search"], p["orderby"]}, "\x00")}
	if q.filter, err = parseFilter(p["filter"]); err != nil {
		return nil, err
	}
	if q.filter != nil {
		if err := q.filter.check(s, basic); err != nil {
			return nil, err
		}
	}
	if q.search, err = parseSearch(p["search"], s, basic); err != nil {
		return nil, err
	}
	if q.sel, err = parseSelect(p["select"]); err != nil {
		return nil, err
	}
	if q.expand, err = parseExpand(p["expand"]); err != nil {
		return nil, err
	}
	if err := q.parseOrder(p["orderby"], s, basic); err != nil {
		return nil, err
	}
	if t, ok := p["top"]; ok {
		if q.top, err = strconv.Atoi(t); err != nil || q.top < 1 || q.top > maxTop {
			return nil, badQuery("The query parameter $top must be a number from 1 to %d.", maxTop)
		}
	}
	switch strings.ToLower(p["count"]) {
	case "", "false":
	case "true":
		q.count = true
	default:
		return nil, badQuery("The query parameter $count must be true or false.")
	}
	if p["skip"] != "" {
		return nil, badQuery("The query parameter $skip is not supported; follow @odata.nextLink.")
	}
	if t := p["skiptoken"]; t != "" {
		if q.after, err = d.openToken(t, q.binding); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func parseSelect(s string) ([]string, error) {
	if strings.TrimSpace(s) == "" || s == "*" {
		return nil, nil
	}
	names := strings.Split(s, ",")
	if len(names) > maxSelect {
		return nil, badQuery("The query parameter $select names more than %d properties.", maxSelect)
	}
	for i, n := range names {
		n = strings.TrimSpace(n)
		if !isName(n) {
			return nil, badQuery("The query parameter $select must hold names of properties parted by commas.")
		}
		names[i] = strings.ToLower(n)
	}
	return names, nil
}

// parseExpand reads one relationship, with $select inside: members($select=id).
func parseExpand(s string) ([]expansion, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	name, inside, options := strings.Cut(s, "(")
	e := expansion{name: name}
	if !isName(name) || strings.Contains(name, "/") {
		return nil, badQuery("The query parameter $expand takes one relationship, such as members or members($select=id).")
	}
	if options {
		inside, ok := strings.CutSuffix(inside, ")")
		sel, ok2 := strings.CutPrefix(strings.ToLower(strings.TrimSpace(inside)), "$select=")
		if !ok || !ok2 {
			return nil, badQuery("Inside $expand only $select is supported.")
		}
		var err error
		if e.sel, err = parseSelect(sel); err != nil {
			return nil, err
		}
	}
	return []expansion{e}, nil
}

func (q *query) parseOrder(s string, sc *schema, basic bool) error {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	words := strings.Fields(s)
	p := sc.byName[strings.ToLower(words[0])]
	ok := p != nil && p.indexed && (!basic || p.basic) && p.field != store.FieldAppID && p.field != store.FieldEnabled && len(words) <= 2
	if ok && len(words) == 2 {
		q.desc = strings.EqualFold(words[1], "desc")
		ok = q.desc || strings.EqualFold(words[1], "asc")
	}
	if !ok {
		return badQuery("Sorting not supported for current query: $orderby takes one of displayName, userPrincipalName, mail, createdDateTime and id, and asc or desc.")
	}
	q.sort = p.field
	return nil
}

// searchWord is one "property:text" of a $search.
type searchWord struct {
	property string // in lower case
	text     string // folded
}

// parseSearch reads "displayName:ann" AND "mail:x" OR …: AND binds closer.
func parseSearch(s string, sc *schema, basic bool) ([][]searchWord, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	bad := badQuery("The query parameter $search must have the form \"displayName:text\", several joined by AND and OR, of at most %d parts.", maxSearchWords)
	if len(s) > maxSearch {
		return nil, bad
	}
	out := [][]searchWord{nil}
	for n := 0; ; n++ {
		inside, rest, ok := cutQuoted(s)
		name, words, ok2 := strings.Cut(inside, ":")
		p := sc.byName[strings.ToLower(name)]
		words = strings.ToLower(strings.TrimSpace(words))
		if !ok || !ok2 || p == nil || !p.filter || p.list || basic && !p.basic || words == "" || n >= maxSearchWords {
			return nil, bad
		}
		last := &out[len(out)-1]
		*last = append(*last, searchWord{strings.ToLower(name), words})
		switch rest = strings.TrimSpace(rest); {
		case rest == "":
			return out, nil
		case len(rest) > 4 && strings.EqualFold(rest[:4], "AND "):
			s = strings.TrimSpace(rest[4:])
		case len(rest) > 3 && strings.EqualFold(rest[:3], "OR "):
			s, out = strings.TrimSpace(rest[3:]), append(out, nil)
		default:
			return nil, bad
		}
	}
}

// cutQuoted takes "…" off the front; a backslash makes the next character stand
// for itself.
func cutQuoted(s string) (inside, rest string, ok bool) {
	if len(s) < 2 || s[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// searched evaluates a $search: every word of the text must begin a word of the
// property.
func (q *query) searched(v *viewer, o *Object) bool {
	if q.search == nil {
		return true
	}
	return slices.ContainsFunc(q.search, func(all []searchWord) bool {
		return !slices.ContainsFunc(all, func(w searchWord) bool {
			s, _ := v.value(o, w.property).(string)
			return !beginsWords(strings.ToLower(s), w.text)
		})
	})
}

func isSplit(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

func beginsWords(s, text string) bool {
	if strings.HasPrefix(s, text) {
		return true
	}
	words := strings.FieldsFunc(s, isSplit)
	for _, t := range strings.FieldsFunc(text, isSplit) {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, t) }) {
			return false
		}
	}
	return strings.ContainsFunc(text, func(r rune) bool { return !isSplit(r) })
}

// narrowSearch lets the store find candidates of a $search by display name.
func (q *query) narrowSearch(s *schema) store.Cond {
	out := store.Cond{Op: store.CondAny}
	for _, all := range q.search {
		some := store.Cond{Op: store.CondAll}
		for _, w := range all {
			p := s.byName[w.property]
			if !p.indexed || p.field != store.FieldName && p.field != store.FieldUPN {
				continue
			}
			for _, t := range strings.FieldsFunc(w.text, isSplit) {
				some.Kids = append(some.Kids, store.Cond{Op: store.CondContains, Field: p.field, Text: t})
			}
		}
		if len(some.Kids) == 0 {
			return store.Cond{}
		}
		out.Kids = append(out.Kids, some)
	}
	return out
}

// pageToken is what a $skiptoken holds: the last object's place in the order.
type pageToken struct {
	ID      string    `json:"i"`
	Name    string    `json:"n,omitempty"`
	UPN     string    `json:"u,omitempty"`
	Mail    string    `json:"m,omitempty"`
	Created az.Micros `json:"c,omitempty"`
}

const tokenPurpose = "graph page"

// sealToken makes the $skiptoken of the page after o. It is bound to the query,
// so that none can be made up or used for another.
func (d *Directory) sealToken(o *Object, q *query) string {
	t := pageToken{ID: o.ID}
	switch q.sort {
	case store.FieldName:
		t.Name = strings.ToLower(o.Name)
	case store.FieldUPN:
		t.UPN = strings.ToLower(o.UPN)
	case store.FieldMail:
		t.Mail = strings.ToLower(o.Mail)
	case store.FieldCreated:
		t.Created = o.Created
	}
	b, _ := json.Marshal(t) // texts and numbers only
	return base64.RawURLEncoding.EncodeToString(append(d.tokenMAC(b, q.binding), b...))
}

const tokenMACLen = 16

func (d *Directory) tokenMAC(b []byte, binding string) []byte {
	return d.cfg.Sealer.Hash(tokenPurpose, []byte(binding+"\x00"+string(b)))[:tokenMACLen]
}

func (d *Directory) openToken(s, binding string) (*store.Object, error) {
	bad := badQuery("The query parameter $skiptoken is not one of this server's, or belongs to another query.")
	b, err := base64.RawURLEncoding.DecodeString(s)
	if len(s) > maxToken || err != nil || len(b) <= tokenMACLen || !hmac.Equal(b[:tokenMACLen], d.tokenMAC(b[tokenMACLen:], binding)) {
		return nil, bad
	}
	var t pageToken
	if err := json.Unmarshal(b[tokenMACLen:], &t); err != nil {
		return nil, bad
	}
	return &store.Object{ID: t.ID, NameKey: t.Name, UPNKey: t.UPN, MailKey: t.Mail, Created: t.Created}, nil
}
