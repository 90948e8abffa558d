package patch

import (
	"iter"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// slot is one value of an element: its JSON, and for primitives that of the
// sibling "_name" with id and extensions. Either may be nil.
type slot struct{ value, extra []byte }

// list is an element with all its values, taken out of an object.
type list struct {
	owner   fhir.Node
	name    string // without "_"
	repeats bool   // it is an array, or would be one
	slots   []slot
}

// readList reads a member and its sibling; repeats says what it is when neither
// is there.
func readList(owner fhir.Node, name string, repeats bool) *list {
	value, extra := owner.Get(name), owner.Get("_"+name)
	l := &list{owner: owner, name: name, repeats: repeats || value.Kind() == fhir.Array || extra.Kind() == fhir.Array}
	l.each(value, func(s *slot, raw []byte) { s.value = raw })
	l.each(extra, func(s *slot, raw []byte) { s.extra = raw })
	return l
}

func (l *list) each(member fhir.Node, set func(*slot, []byte)) {
	i := 0
	for item := range member.Items() {
		if i == len(l.slots) {
			l.slots = append(l.slots, slot{})
		}
		if item.Kind() != fhir.Null {
			set(&l.slots[i], item.Raw())
		}
		i++
	}
}

func (l *list) insert(at int, s slot) { l.slots = slices.Insert(l.slots, at, s) }

// write puts the list back into its object; where nothing is left, the member
// goes.
func (l *list) write() []fhir.Edit {
	var edits []fhir.Edit
	for name, text := range l.members() {
		switch member := l.owner.Get(name); {
		case text != nil:
			edits = append(edits, fhir.Set(l.owner, name, text))
		case member.Exists():
			edits = append(edits, fhir.Edit{Node: member})
		}
	}
	return edits
}

// members are the two members of the list, with nil for one that has nothing.
func (l *list) members() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		_ = yield(l.name, l.text(func(s slot) []byte { return s.value })) &&
			yield("_"+l.name, l.text(func(s slot) []byte { return s.extra }))
	}
}

// text writes the values or their siblings, with null where one has none.
func (l *list) text(pick func(slot) []byte) []byte {
	var out []byte
	some := false
	for i, s := range l.slots {
		if i > 0 {
			out = append(out, ',')
		}
		raw := pick(s)
		if raw == nil {
			out = append(out, "null"...)
			continue
		}
		some = true
		out = append(out, raw...)
	}
	switch {
	case !some:
		return nil
	case l.repeats:
		return append(append([]byte{'['}, out...), ']')
	}
	return out
}

// without takes one value out. An object that is left empty goes too: FHIR has
// none (R4 json.html).
func (l *list) without(at int) []fhir.Edit {
	l.slots = slices.Delete(l.slots, at, at+1)
	if len(l.slots) == 0 && l.alone() {
		if outer, err := locate(l.owner); err == nil {
			return outer.list.without(outer.at)
		}
	}
	return l.write()
}

// places are where the values of the list stand in it, by their nodes.
func (l *list) places() map[fhir.Node]int {
	all := map[fhir.Node]int{}
	for _, member := range []fhir.Node{l.owner.Get(l.name), l.owner.Get("_" + l.name)} {
		i := 0
		for item := range member.Items() {
			all[item] = i
			i++
		}
	}
	return all
}

// alone reports whether the list is all that its object has.
func (l *list) alone() bool {
	for name := range l.owner.Members() {
		if strings.TrimPrefix(name, "_") != l.name {
			return false
		}
	}
	return true
}

// located is an element in the list it is of.
type located struct {
	list *list
	at   int
}

// locate finds where an element stands. The object of a primitive without value
// stands for the primitive.
func locate(n fhir.Node) (located, error) {
	member, at := n, 0
	if array := n.Parent(); array.Kind() == fhir.Array {
		for item := array.First(); item != n; item = item.Next() {
			at++
		}
		member = array
	}
	owner := member.Parent()
	if owner.Kind() != fhir.Object {
		return located{}, unfit("the path finds the whole resource")
	}
	return located{readList(owner, strings.TrimPrefix(member.Name(), "_"), false), at}, nil
}

// typeOf is the FHIR type of an object in a resource, "" for what R4 does not
// know.
func typeOf(n fhir.Node) string {
	if typ := n.ResourceType(); typ != "" {
		return typ
	}
	member := n
	if member.Parent().Kind() == fhir.Array {
		member = member.Parent()
	}
	name := member.Name()
	if strings.HasPrefix(name, "_") {
		return "Element" // the id and extensions of a primitive
	}
	owner := member.Parent()
	if !owner.Exists() {
		return ""
	}
	info, _ := r4.Element(typeOf(owner), name)
	if info == nil {
		return ""
	}
	return info.Type
}

func lookup(typ, name string) (*r4.ElementInfo, bool) { return r4.Element(typ, name) }

// element finds the member that a value goes into: a choice is narrowed by the
// value's type, "value" with a valueString to "valueString".
func element(typ, name string, value fhir.Node) (*r4.ElementInfo, string, error) {
	info, known := r4.Element(typ, name)
	if known && info.Type == "" && info.Choice != "" {
		name = info.Choice + suffix(value)
		info, known = r4.Element(typ, name)
	}
	if !known || name == "resourceType" || strings.HasPrefix(name, "_") {
		return nil, "", unfit("%s has no element %q that can hold this value", typ, name)
	}
	return info, name, nil
}

// choices are the members a choice can be.
func choices(typ, choice string) []string {
	whole, known := r4.Element(typ, choice)
	if !known {
		return nil
	}
	names := make([]string, len(whole.Types))
	for i, t := range whole.Types {
		names[i] = choice + strings.ToUpper(t.Name[:1]) + t.Name[1:]
	}
	return names
}

// suffix is the type in the name of a parameter's value[x]: "String".
func suffix(part fhir.Node) string {
	for name := range part.Members() {
		if typ, ok := strings.CutPrefix(strings.TrimPrefix(name, "_"), "value"); ok {
			return typ
		}
	}
	return ""
}

// makeValue makes the JSON of a value: a value[x] as it stands, a resource, or an
// anonymous element from the parts (R4 fhirpatch.html).
func makeValue(part fhir.Node, info *r4.ElementInfo) (slot, error) {
	if typ := suffix(part); typ != "" {
		return slot{rawOf(part.Get("value" + typ)), rawOf(part.Get("_value" + typ))}, nil
	}
	if r := part.Get("resource"); r.Kind() == fhir.Object {
		return slot{value: r.Raw()}, nil
	}
	parts := part.Get("part")
	if parts.Len() == 0 {
		return slot{}, unfit("the value is empty")
	}
	out, err := makeObject(parts, info.Type)
	return slot{value: out}, err
}

func rawOf(n fhir.Node) []byte {
	if !n.Exists() {
		return nil
	}
	return n.Raw()
}

// makeObject makes an anonymous element; parts of one name become a list.
func makeObject(parts fhir.Node, typ string) ([]byte, error) {
	lists := map[string]*list{}
	var order []*list
	for p := range parts.Items() {
		info, name, err := element(typ, p.Get("name").Text(), p)
		if err != nil {
			return nil, err
		}
		value, err := makeValue(p, info)
		if err != nil {
			return nil, err
		}
		l := lists[name]
		if l == nil {
			l = &list{name: name, repeats: info.Max > 1}
			lists[name], order = l, append(order, l)
		} else if !l.repeats {
			return nil, unfit("%s is given twice and does not repeat", name)
		}
		l.slots = append(l.slots, value)
	}
	out := []byte{'{'}
	for _, l := range order {
		for name, text := range l.members() {
			if text == nil {
				continue
			}
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(append(fhir.AppendString(out, name), ':'), text...)
		}
	}
	return append(out, '}'), nil
}
