package directory

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// check refuses properties that a kind does not have or that cannot be
// compared.
func (n *node) check(s *schema, basic bool) error {
	for i := range n.kids {
		if n.op == opAny || n.op == opAll {
			break // the variable stands for an element
		}
		if err := n.kids[i].check(s, basic); err != nil {
			return err
		}
	}
	if n.op == opAnd || n.op == opOr || n.op == opNot {
		return nil
	}
	p := s.byName[n.path]
	if p == nil || !p.filter || basic && !p.basic {
		return badFilter("a " + s.typ + " cannot be filtered by this property")
	}
	if list := n.op == opAny || n.op == opAll; list != p.list {
		if p.list {
			return badFilter("this property is a collection: compare its elements by any")
		}
		return badFilter("any and all are for collections")
	}
	return nil
}

// matches evaluates a filter. v reads the properties.
func (n *node) matches(v *viewer, o *Object) bool {
	switch n.op {
	case opAnd:
		for i := range n.kids {
			if !n.kids[i].matches(v, o) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.kids {
			if n.kids[i].matches(v, o) {
				return true
			}
		}
		return false
	case opNot:
		return !n.kids[0].matches(v, o)
	}
	value := v.value(o, n.path)
	if n.op == opAny || n.op == opAll {
		list, _ := value.([]string)
		return n.elements(list)
	}
	return n.compare(value)
}

func (n *node) elements(list []string) bool {
	if len(n.kids) == 0 {
		return len(list) > 0
	}
	for _, x := range list {
		if n.kids[0].element(x) == (n.op == opAny) {
			return n.op == opAny
		}
	}
	return n.op == opAll
}

// element evaluates what stands inside any or all for one element.
func (n *node) element(x string) bool {
	switch n.op {
	case opAnd:
		for i := range n.kids {
			if !n.kids[i].element(x) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.kids {
			if n.kids[i].element(x) {
				return true
			}
		}
		return false
	case opNot:
		return !n.kids[0].element(x)
	case opAny, opAll:
		return false
	}
	return n.compare(x)
}

func (n *node) compare(value any) bool {
	switch n.op {
	case opIn:
		for i := range n.values {
			if c, ok := n.values[i].order(value); ok && c == 0 {
				return true
			}
		}
		return false
	case opStarts, opEnds, opContains:
		s, ok := value.(string)
		if !ok {
			return false
		}
		s = strings.ToLower(s)
		switch t := n.values[0].text; n.op {
		case opStarts:
			return strings.HasPrefix(s, t)
		case opEnds:
			return strings.HasSuffix(s, t)
		default:
			return strings.Contains(s, t)
		}
	}
	c, ok := n.values[0].order(value)
	switch n.op {
	case opEq:
		return ok && c == 0
	case opNe:
		return !ok || c != 0
	case opGt:
		return ok && c > 0
	case opGe:
		return ok && c >= 0
	case opLt:
		return ok && c < 0
	default:
		return ok && c <= 0
	}
}

// order compares a property's value with the literal; ok is false for what
// cannot be compared. Texts are compared folded, byte by byte, as the store does.
func (l *literal) order(value any) (c int, ok bool) {
	var n int64
	switch x := value.(type) {
	case nil:
		return 0, l.kind == litNull
	case string:
		if l.kind != litText {
			return 0, x == "" && l.kind == litNull
		}
		return strings.Compare(strings.ToLower(x), l.text), true
	case bool:
		if l.kind != litBool {
			return 0, false
		}
		if x {
			n = 1
		}
	case az.Micros:
		if l.kind != litTime {
			return 0, x == 0 && l.kind == litNull
		}
		n = int64(x)
	case int:
		if l.kind != litNumber {
			return 0, false
		}
		n = int64(x)
	default:
		return 0, false
	}
	switch {
	case n < l.num:
		return -1, true
	case n > l.num:
		return 1, true
	}
	return 0, true
}

// narrowed is what the store can do of a filter: objects that do not meet cond
// do not match. exact says that those which meet it do.
type narrowed struct {
	cond  store.Cond
	exact bool
}

var everything = narrowed{}

// narrow finds the part of a filter for which the store has indexes.
func (d *Directory) narrow(ctx context.Context, n *node, s *schema) (narrowed, error) {
	switch n.op {
	case opAnd, opOr:
		return d.narrowJoined(ctx, n, s)
	case opNot:
		k, err := d.narrow(ctx, &n.kids[0], s)
		if err != nil || !k.exact {
			return everything, err
		}
		return narrowed{store.Cond{Op: store.CondNot, Kids: []store.Cond{k.cond}}, true}, nil
	case opAny:
		return d.narrowAny(ctx, n)
	}
	p := s.byName[n.path]
	if p == nil || !p.indexed {
		return everything, nil
	}
	return n.indexed(p.field), nil
}

func (d *Directory) narrowJoined(ctx context.Context, n *node, s *schema) (narrowed, error) {
	out := narrowed{store.Cond{Op: store.CondAll}, true}
	if n.op == opOr {
		out.cond.Op = store.CondAny
	}
	for i := range n.kids {
		k, err := d.narrow(ctx, &n.kids[i], s)
		if err != nil {
			return everything, err
		}
		all := k.cond.Op == store.CondAll && len(k.cond.Kids) == 0
		if all && n.op == opOr {
			return everything, nil
		}
		out.exact = out.exact && k.exact
		if !all {
			out.cond.Kids = append(out.cond.Kids, k.cond)
		}
	}
	return out, nil
}

// indexed turns a comparison of an indexed property into a condition.
func (n *node) indexed(f store.Field) narrowed {
	conds := make([]store.Cond, 0, len(n.values))
	for i := range n.values {
		l := &n.values[i]
		c := store.Cond{Op: store.CondEq, Field: f, Text: l.text, Num: l.num}
		switch {
		case f == store.FieldCreated && l.kind != litTime, f == store.FieldEnabled && l.kind != litBool:
			return everything
		case f != store.FieldCreated && f != store.FieldEnabled && l.kind != litText:
			return everything
		}
		conds = append(conds, c)
	}
	one := narrowed{conds[0], true}
	flip := func(op store.CondOp) narrowed {
		one.cond.Op = op
		return narrowed{store.Cond{Op: store.CondNot, Kids: []store.Cond{one.cond}}, true}
	}
	switch n.op {
	case opEq:
	case opIn:
		return narrowed{store.Cond{Op: store.CondAny, Kids: conds}, true}
	case opNe:
		return flip(store.CondEq)
	case opGt:
		one.cond.Op = store.CondMore
	case opLt:
		one.cond.Op = store.CondLess
	case opGe:
		return flip(store.CondLess)
	case opLe:
		return flip(store.CondMore)
	case opStarts:
		if f != store.FieldName && f != store.FieldUPN && f != store.FieldMail {
			return everything
		}
		one.cond.Op = store.CondPrefix
	case opContains, opEnds:
		if f != store.FieldName && f != store.FieldUPN {
			return everything
		}
		one.cond.Op, one.exact = store.CondContains, n.op == opContains
	default:
		return everything
	}
	return one
}

// narrowAny finds objects by one of their further names: an identifier URI, an
// application id among a service principal's names, a managed identity's
// resource.
func (d *Directory) narrowAny(ctx context.Context, n *node) (narrowed, error) {
	if len(n.kids) != 1 || n.kids[0].op != opEq || n.kids[0].values[0].kind != litText {
		return everything, nil
	}
	text := n.kids[0].values[0].text
	field := store.FieldAppID
	switch n.path {
	case "alternativenames":
		if !strings.HasPrefix(text, "/") {
			return everything, nil
		}
		return narrowed{cond: store.Cond{Op: store.CondEq, Field: store.FieldResource, Text: text}}, nil
	case "identifieruris":
		field = store.FieldID
	case "serviceprincipalnames":
		if az.IsGUID(text) {
			return narrowed{cond: store.Cond{Op: store.CondEq, Field: store.FieldAppID, Text: text}}, nil
		}
		for _, f := range firstParty() {
			if len(f.IdentifierURIs) > 0 && strings.EqualFold(f.IdentifierURIs[0], text) {
				return narrowed{cond: store.Cond{Op: store.CondEq, Field: store.FieldAppID, Text: f.AppID}}, nil
			}
		}
	default:
		return everything, nil
	}
	app, ok, err := d.ByName(ctx, text)
	if err != nil {
		return everything, err
	}
	if !ok {
		return narrowed{cond: store.Cond{Op: store.CondAny}}, nil // nothing
	}
	c := store.Cond{Op: store.CondEq, Field: field, Text: app.ID}
	if field == store.FieldAppID {
		c.Text = app.AppID
	}
	return narrowed{cond: c}, nil
}
