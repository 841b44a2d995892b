package arm

import (
	"context"
	"fmt"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// BenchmarkGet is one resource read by somebody who may, without HTTP.
func BenchmarkGet(b *testing.B) {
	p := newPlane(b, storetest.Open(b, store.Config{Dir: b.TempDir()}), newSealer(b), testTypes(nil)...)
	ctx, who := context.Background(), az.Principal{ObjectID: owner}
	box := p.api.types["test.box/boxes"].(*Type[boxProps])
	if err := p.api.EnsureGroup(ctx, "g1"); err != nil {
		b.Fatal(err)
	}
	id := az.MustParseID(boxes + "/b")
	if _, err := box.Put(ctx, who, &Resource[boxProps]{ID: id, Secrets: map[string]az.Secret{"word": az.NewSecret("w")}}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box.Get(ctx, who, id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList is a page of 1,000 of 2,000 resources.
func BenchmarkList(b *testing.B) {
	p := newPlane(b, storetest.Open(b, store.Config{Dir: b.TempDir()}), newSealer(b), testTypes(nil)...)
	ctx, who := context.Background(), az.Principal{ObjectID: owner}
	box := p.api.types["test.box/boxes"].(*Type[boxProps])
	if err := p.api.EnsureGroup(ctx, "g1"); err != nil {
		b.Fatal(err)
	}
	err := p.store.Write(ctx, func(tx *store.Tx) error {
		for i := range 2000 {
			if err := box.Write(tx, &Resource[boxProps]{ID: az.MustParseID(fmt.Sprintf("%s/b%d", boxes, i))}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	call := p.api.internalCall(who, "GET", az.MustParseID(inGroup))
	b.ReportAllocs()
	for b.Loop() {
		v, err := p.api.list(ctx, call, box, call.ID)
		if err != nil || len(v.(Page).Value) != pageSize {
			b.Fatal(err)
		}
	}
}
