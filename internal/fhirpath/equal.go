package fhirpath

import (
	"hash/maphash"
	"math"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// equal is = for collections (N1 section 6.1.1): open when one is empty, else
// item by item in their order.
func (e *eval) equal(left, right []Value) (tri, error) {
	if len(left) == 0 || len(right) == 0 {
		return open, nil
	}
	if len(left) != len(right) {
		return no, nil
	}
	result := yes
	for i := range left {
		t, err := e.equalItems(&left[i], &right[i], 0)
		if err != nil || t == no {
			return no, err
		}
		result = min3(result, t)
	}
	return result, nil
}

// equalItems compares two values; open when precisions, zones or units leave it
// so.
func (e *eval) equalItems(a, b *Value, depth int) (tri, error) {
	if err := e.tick(); err != nil {
		return no, err
	}
	if t, ok := equalQuickly(a, b); ok {
		return t, nil
	}
	x, y := a.comparable(), b.comparable()
	if x.kind != kindNode && y.kind != kindNode {
		return e.equalSystem(x, y), nil
	}
	if x.kind != kindNode || y.kind != kindNode || x.bare != y.bare {
		return no, nil
	}
	return e.equalNodes(x.node, y.node, x.typ, y.typ, depth)
}

// equalQuickly decides the common cases without making anything: the same
// element, and an element that is a plain string.
func equalQuickly(a, b *Value) (t tri, ok bool) {
	if a.kind == kindString && b.kind == kindNode {
		a, b = b, a
	}
	if a.kind != kindNode {
		return open, false
	}
	if b.kind == kindString && a.typ.primitive == kindString && a.node.Kind() == fhir.String {
		return triOf(a.node.Is(b.ref.(string))), true
	}
	same := b.kind == kindNode && a.node == b.node && a.bare == b.bare
	return yes, same
}

func (e *eval) equalSystem(x, y Value) tri {
	if isMoment(x.kind) && isMoment(y.kind) {
		if isDay(x.kind) != isDay(y.kind) {
			return no
		}
		return triOfOrder(compareMoments(x.ref.(*moment), y.ref.(*moment)))
	}
	if o, ok := e.compareNumbers(x, y); ok {
		return triOfOrder(o)
	}
	if x.kind != y.kind {
		return no
	}
	switch x.kind {
	case kindString:
		return triOf(x.ref.(string) == y.ref.(string))
	case kindType:
		return triOf(x.ref.(typeInfo) == y.ref.(typeInfo))
	}
	return triOf(x.num == y.num)
}

func triOfOrder(o order) tri {
	if o == unknown {
		return open
	}
	return triOf(o == same)
}

// equalNodes compares elements with all that is in them; the order of members
// does not matter, that of items does. The document bounds the depth.
func (e *eval) equalNodes(a, b fhir.Node, t, u *elementType, depth int) (tri, error) {
	if a.Kind() != b.Kind() || a.Len() != b.Len() {
		return no, nil
	}
	result := yes
	place := 0
	for c := range a.Children() {
		var other fhir.Node
		if a.Kind() == fhir.Array {
			other = b.Index(place)
			place++
		} else {
			other = b.Get(c.Name())
		}
		one, err := e.equalContent(c, other, t.contentOf(a, c), u.contentOf(b, other), depth+1)
		if err != nil || one == no {
			return no, err
		}
		result = min3(result, one)
	}
	return result, nil
}

// contentOf is the type of a child c of n, which is of type t.
func (t *elementType) contentOf(n, c fhir.Node) *elementType {
	if n.Kind() == fhir.Array {
		return t
	}
	if m := t.inJSON[c.NameID()]; m != nil && m.json == c.NameID() {
		if inner := m.contentType(); inner != nil {
			return inner
		}
		return typeOfNode(c)
	}
	return untyped
}

func (e *eval) equalContent(a, b fhir.Node, t, u *elementType, depth int) (tri, error) {
	switch {
	case a.Kind() != b.Kind():
		return no, nil
	case a.Kind() == fhir.Array:
		return e.equalNodes(a, b, t, u, depth)
	case a.Kind() == fhir.Null:
		return yes, nil
	}
	return e.equalItems(&Value{node: a, typ: t}, &Value{node: b, typ: u}, depth)
}

// equivalent is ~ for collections (N1 section 6.1.3): two empty ones are
// equivalent, and the order does not matter.
func (e *eval) equivalent(left, right []Value) (bool, error) {
	if len(left) != len(right) {
		return false, nil
	}
	used := make([]bool, len(right))
	for i := range left {
		found := false
		for k := range right {
			if used[k] || found {
				continue
			}
			same, err := e.equivalentItems(&left[i], &right[k])
			if err != nil {
				return false, err
			}
			used[k], found = same, same
		}
		if !found {
			return false, nil
		}
	}
	return true, nil
}

func (e *eval) equivalentItems(a, b *Value) (bool, error) {
	if err := e.tick(); err != nil {
		return false, err
	}
	x, y := a.comparable(), b.comparable()
	if x.kind == kindNode && y.kind == kindNode {
		if a.isComplex() && b.isComplex() {
			return e.equivalentMembers(a, b)
		}
		t, err := e.equalItems(a, b, 0)
		return t == yes, err
	}
	switch {
	case x.kind == kindString && y.kind == kindString:
		return folded(x.ref.(string)) == folded(y.ref.(string)), nil
	case isDay(x.kind) && isDay(y.kind) || x.kind == kindTime && y.kind == kindTime:
		return equivalentMoments(x.ref.(*moment), y.ref.(*moment)), nil
	case x.kind == kindQuantity || y.kind == kindQuantity:
		p, okP := x.Quantity()
		q, okQ := y.Quantity()
		return okP && okQ && equivalentQuantities(p, q, e.units), nil
	}
	if p, ok := x.Decimal(); ok {
		q, ok := y.Decimal()
		return ok && equivalentDecimals(p, q), nil
	}
	return x.kind != kindNode && y.kind != kindNode && e.equalSystem(x, y) == yes, nil
}

// equivalentMembers compares complex elements member by member.
func (e *eval) equivalentMembers(a, b *Value) (bool, error) {
	for _, side := range [2]*Value{a, b} {
		for c := range side.node.Children() {
			s := newStep(strings.TrimPrefix(c.Name(), "_"), false)
			if m := side.typ.inJSON[c.NameID()]; m != nil {
				s.name = m.name
			}
			x, err := s.from(e, a, nil)
			if err != nil {
				return false, err
			}
			y, err := s.from(e, b, nil)
			if err != nil {
				return false, err
			}
			if same, err := e.equivalent(x, y); err != nil || !same {
				return false, err
			}
		}
	}
	return true, nil
}

// folded is a text as ~ sees it: without case, all white space alike.
func folded(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// distinct collects values that are not equal to one another. Beyond a few it
// keeps them by hash; quantities, whose equality no hash follows, apart.
type distinct struct {
	e     *eval
	items []Value // from first on
	first int

	byHash map[uint64][]int32
	odd    []int32
}

// fewItems is how many items are compared one by one.
const fewItems = 16

// add appends v unless an equal item is there.
func (d *distinct) add(v Value) error {
	h, plain, found, err := d.find(&v)
	if err != nil || found {
		return err
	}
	at := int32(len(d.items))
	d.items = append(d.items, v)
	switch {
	case d.byHash != nil && plain:
		d.byHash[h] = append(d.byHash[h], at)
	case d.byHash != nil:
		d.odd = append(d.odd, at)
	case len(d.items)-d.first == fewItems:
		d.arrange()
	}
	return nil
}

// find says whether an item equal to v is there, and v's hash if it has one.
func (d *distinct) find(v *Value) (h uint64, plain, found bool, err error) {
	if d.byHash == nil {
		found, err = d.e.has(d.items[d.first:], *v)
		return 0, false, found, err
	}
	h, plain = hash(v)
	if !plain {
		found, err = d.e.has(d.items[d.first:], *v)
		return h, plain, found, err
	}
	for _, list := range [2][]int32{d.byHash[h], d.odd} {
		for _, at := range list {
			t, err := d.e.equalItems(&d.items[at], v, 0)
			if err != nil || t == yes {
				return h, plain, t == yes, err
			}
		}
	}
	return h, plain, false, nil
}

func (d *distinct) arrange() {
	d.byHash = make(map[uint64][]int32, 4*fewItems)
	for i := d.first; i < len(d.items); i++ {
		if h, plain := hash(&d.items[i]); plain {
			d.byHash[h] = append(d.byHash[h], int32(i))
		} else {
			d.odd = append(d.odd, int32(i))
		}
	}
}

// appendDistinct appends the items of lists that are not equal to one another.
func (e *eval) appendDistinct(out []Value, lists ...[]Value) ([]Value, error) {
	d := distinct{e: e, items: out, first: len(out)}
	for _, list := range lists {
		for _, v := range list {
			if err := d.add(v); err != nil {
				return out, err
			}
		}
	}
	return e.grow(d.items)
}

// setOf is the distinct items of a list, to look others up in.
func (e *eval) setOf(list []Value) (*distinct, error) {
	d := &distinct{e: e}
	for _, v := range list {
		if err := d.add(v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *distinct) has(v *Value) (bool, error) {
	_, _, found, err := d.find(v)
	return found, err
}

// union is |.
func union(e *eval, _ int, left, right, out []Value) ([]Value, error) {
	return e.appendDistinct(out, left, right)
}

var seed = maphash.MakeSeed()

// hash gives equal values equal numbers; ok is false for those that may equal
// others of another form. The seed is the process's own, so that nobody can
// prepare values that collide.
func hash(v *Value) (h uint64, ok bool) {
	if v.isComplex() {
		return hashObject(v)
	}
	switch s := v.system(); s.kind {
	case kindString:
		return maphash.String(seed, s.ref.(string)), true
	case kindInteger:
		return math.Float64bits(float64(s.num)), true
	case kindDecimal:
		return hashDecimal(s.ref.(*apd.Decimal))
	case kindBoolean:
		return uint64(s.num), true
	case kindDate, kindDateTime, kindTime:
		m := s.ref.(*moment)
		return uint64(m.instant().UnixNano()), true
	}
	return 0, false
}

func hashDecimal(d *apd.Decimal) (uint64, bool) {
	f, err := d.Float64()
	return math.Float64bits(f + 0), err == nil // + 0 makes -0 into 0
}

// hashObject adds up the strings among an element's members, because their
// order does not matter and deeper ones need not be looked at.
func hashObject(v *Value) (uint64, bool) {
	if v.typ.quantity {
		return 0, false
	}
	var h uint64
	for c := range v.node.Children() {
		if c.Kind() == fhir.String && !isMoment(v.typ.contentOf(v.node, c).primitive) {
			h += maphash.Bytes(seed, c.TextBytes())
		}
	}
	return h, true
}
