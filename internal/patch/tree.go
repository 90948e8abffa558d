package patch

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// value is one JSON value that can be changed. A leaf keeps its text as written.
type value struct {
	kind  fhir.Kind
	raw   []byte   // leaves
	text  string   // strings: decoded
	names []string // objects: one per kid
	kids  []*value
}

// tree is a document on its way through a patch.
type tree struct {
	root *value
	size int // values made so far
}

func (t *tree) grow(n fhir.Node) *value {
	v := &value{kind: n.Kind()}
	switch v.kind {
	case fhir.Object:
		for name, member := range n.Members() {
			v.names = append(v.names, name)
			v.kids = append(v.kids, t.grow(member))
		}
	case fhir.Array:
		for item := range n.Items() {
			v.kids = append(v.kids, t.grow(item))
		}
	default:
		v.raw, v.text = n.Raw(), n.Text()
	}
	return v
}

// copied is a deep copy, counted against the tree's size.
func (t *tree) copied(v *value) *value {
	if t.size++; t.size > maxGrown {
		return v // Apply refuses the result
	}
	c := *v
	c.names, c.kids = slices.Clone(v.names), make([]*value, len(v.kids))
	for i, kid := range v.kids {
		c.kids[i] = t.copied(kid)
	}
	return &c
}

func (v *value) append(dst []byte) []byte {
	switch v.kind {
	case fhir.Object:
		dst = append(dst, '{')
		for i, kid := range v.kids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(fhir.AppendString(dst, v.names[i]), ':')
			dst = kid.append(dst)
		}
		return append(dst, '}')
	case fhir.Array:
		dst = append(dst, '[')
		for i, kid := range v.kids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = kid.append(dst)
		}
		return append(dst, ']')
	}
	return append(dst, v.raw...)
}

// step goes to one child, nil when there is none.
func (v *value) step(name string) *value {
	if at := v.at(name); at >= 0 && at < len(v.kids) {
		return v.kids[at]
	}
	return nil
}

// at is the place of a child, len(kids) for "-" of an array, -1 for none.
func (v *value) at(name string) int {
	switch v.kind {
	case fhir.Object:
		return slices.Index(v.names, name)
	case fhir.Array:
		if i, ok := index(name, len(v.kids)); ok {
			return i
		}
	}
	return -1
}

func (t *tree) find(p pointer) *value {
	v := t.root
	for _, step := range p {
		if v = v.step(step); v == nil {
			return nil
		}
	}
	return v
}

const missing = "the path leads nowhere"

// apply carries out one operation; wrong says why it cannot be.
func (t *tree) apply(o operation) (wrong string) {
	switch o.op {
	case "add":
		return t.add(o.path, t.grown(o.value))
	case "remove":
		return t.remove(o.path)
	case "replace":
		return t.replace(o.path, t.grown(o.value))
	case "test":
		if at := t.find(o.path); at == nil || !equal(at, t.grow(o.value)) {
			return "the test fails"
		}
		return ""
	}
	return t.transfer(o)
}

// grown makes a new value of a patch's, counted.
func (t *tree) grown(n fhir.Node) *value {
	t.size++
	for range n.Descendants() {
		t.size++
	}
	return t.grow(n)
}

// transfer is move and copy.
func (t *tree) transfer(o operation) string {
	v := t.find(o.from)
	if v == nil {
		return `"from" leads nowhere`
	}
	if o.op == "copy" {
		return t.add(o.path, t.copied(v))
	}
	if o.path.within(o.from) {
		return "a value cannot move into itself"
	}
	if len(o.from) == 0 {
		return t.add(o.path, v)
	}
	if wrong := t.remove(o.from); wrong != "" {
		return wrong
	}
	return t.add(o.path, v)
}

func (t *tree) add(p pointer, v *value) string {
	if len(p) == 0 {
		t.root = v
		return ""
	}
	parent, last := t.find(p[:len(p)-1]), p[len(p)-1]
	if parent == nil {
		return missing
	}
	at := parent.at(last)
	switch {
	case parent.kind == fhir.Array && at >= 0:
		parent.kids = slices.Insert(parent.kids, at, v)
	case parent.kind == fhir.Object && at >= 0:
		parent.kids[at] = v
	case parent.kind == fhir.Object:
		parent.names, parent.kids = append(parent.names, last), append(parent.kids, v)
	default:
		return missing
	}
	return ""
}

func (t *tree) remove(p pointer) string {
	if len(p) == 0 {
		return "the whole document cannot be removed"
	}
	parent := t.find(p[:len(p)-1])
	if parent == nil || parent.step(p[len(p)-1]) == nil {
		return missing
	}
	at := parent.at(p[len(p)-1])
	parent.kids = slices.Delete(parent.kids, at, at+1)
	if parent.kind == fhir.Object {
		parent.names = slices.Delete(parent.names, at, at+1)
	}
	return ""
}

func (t *tree) replace(p pointer, v *value) string {
	at := t.find(p)
	if at == nil {
		return missing
	}
	*at = *v
	return ""
}
