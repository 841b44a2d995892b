package vault

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/store"
)

// maxPage is the largest page and the usual one. Source: maxresults of Key
// Vault's lists.
const maxPage = 25

// page is what a list was asked for: how many, and after which item.
type page struct {
	size    int
	given   string // maxresults as given, "" if it was not
	after   string
	purpose string // binds skip tokens to this list of this vault
}

// pageOf reads maxresults and $skiptoken. A token opens only for the list that
// gave it.
func (v *Vaults) pageOf(c *call, list string) (page, error) {
	p := page{size: maxPage, purpose: "skiptoken/" + strconv.FormatInt(c.vault.Serial, 10) + "/" + list}
	if p.given = query(c.URL, "maxresults"); p.given != "" {
		n, err := strconv.Atoi(p.given)
		if err != nil || n < 1 || n > maxPage {
			return p, badParameter("The query parameter 'maxresults' must be a number from 1 to %d.", maxPage)
		}
		p.size = n
	}
	if token := query(c.URL, "$skiptoken"); token != "" {
		after, err := v.unpack(p.purpose, token)
		if err != nil {
			return p, badParameter("The query parameter '$skiptoken' is not one that this list gave. Begin again without it.")
		}
		p.after = string(after)
	}
	return p, nil
}

// showPage writes a page; rows holds one more than the page if there are more.
func (v *Vaults) showPage(c *call, p page, rows []store.SecretVersion, b bundle, mark func(*store.SecretVersion) string) []byte {
	more := len(rows) > p.size
	if more {
		rows = rows[:p.size]
	}
	out := append(make([]byte, 0, 64+len(rows)*400), `{"value":[`...)
	for i := range rows {
		if i > 0 {
			out = append(out, ',')
		}
		b.r = &rows[i]
		out = b.appendTo(out, nil)
	}
	out = append(out, `],"nextLink":`...)
	if !more {
		return append(out, `null}`...)
	}
	link := c.host.base + strings.TrimSuffix(c.URL.Path, "/") + "?api-version=" + url.QueryEscape(query(c.URL, "api-version")) +
		"&$skiptoken=" + v.pack(p.purpose, []byte(mark(&rows[len(rows)-1])))
	if p.given != "" {
		link += "&maxresults=" + strconv.Itoa(p.size)
	}
	return append(appendString(out, link), '}')
}

func byName(r *store.SecretVersion) string { return fold(r.Name) }

func byNumber(r *store.SecretVersion) string { return strconv.FormatInt(r.Number, 10) }

func (v *Vaults) list(ctx context.Context, c call) (any, error) {
	return v.listSecrets(ctx, c, false)
}

func (v *Vaults) listDeleted(ctx context.Context, c call) (any, error) {
	return v.listSecrets(ctx, c, true)
}

func (v *Vaults) listSecrets(ctx context.Context, c call, deleted bool) (any, error) {
	if err := v.allow(ctx, c.Caller, actLook, c.live, c.vault.ID); err != nil {
		return nil, err
	}
	p, err := v.pageOf(&c, "secrets/"+strconv.FormatBool(deleted))
	if err != nil {
		return nil, err
	}
	rows, err := v.store.Secrets(ctx, c.vault, deleted, p.after, p.size+1)
	if err != nil {
		return nil, err
	}
	return v.showPage(&c, p, rows, bundle{vault: c.vault, base: c.host.base, deleted: deleted}, byName), nil
}

// versions lists oldest first, so that a version made meanwhile comes at the
// end and no page repeats or misses one.
func (v *Vaults) versions(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actLook, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	p, err := v.pageOf(&c, "versions/"+fold(name))
	if err != nil {
		return nil, err
	}
	var from int64
	if p.after != "" {
		if from, err = strconv.ParseInt(p.after, 10, 64); err != nil {
			return nil, err // we made it
		}
	}
	rows, err := v.store.SecretVersions(ctx, c.vault, name, from, p.size+1)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 && from == 0 {
		return nil, secretNotFound(name, "")
	}
	return v.showPage(&c, p, rows, bundle{vault: c.vault, base: c.host.base, version: true}, byNumber), nil
}
