package arm

import (
	"context"
	"fmt"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func TestReseal(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		ctx := context.Background()
		withGroup(p)
		for i := range 3 {
			p.must(200, owner, "PUT", fmt.Sprintf("%s/b%d", boxes, i), `{"properties":{"word":"w"}}`)
		}
		p.must(200, owner, "PUT", boxes+"/plain", `{}`)
		before := p.must(200, owner, "GET", boxes+"/b1", "").header.Get("ETag")
		wrapped, err := p.api.cfg.Sealer.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.api.cfg.Sealer.Reload(wrapped); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{3, 0} {
			if n, err := p.api.Reseal(ctx); err != nil || n != want {
				t.Errorf("resealed %d (%v), want %d", n, err, want)
			}
		}
		row, _, err := p.store.Resource(ctx, az.MustParseID(boxes+"/b1"))
		if err != nil || p.api.cfg.Sealer.NeedsReseal(row.Sealed) {
			t.Errorf("still under the old key (%v)", err)
		}
		a := p.must(200, owner, "POST", boxes+"/b1/listWord", "")
		if a.at("word") != "w" || p.must(200, owner, "GET", boxes+"/b1", "").header.Get("ETag") != before {
			t.Errorf("after resealing: %s", a.raw)
		}
	})
}
