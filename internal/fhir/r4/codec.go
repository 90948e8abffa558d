package r4

import (
	"encoding/binary"
	"errors"
)

// A codec walks a value once and either writes or reads it, so that each form is
// described in one place. Numbers are unsigned varints, strings are varint
// indexes into a table of the section, lists are a count and their items.
type codec struct {
	reading bool
	err     error // reading: the first fault; all reads after it give zero

	buf   []byte            // written so far, or still to read
	table []string          // the section's strings by index
	index map[string]uint64 // writing: string → index
}

var errDamaged = errors.New("r4: tables are damaged")

func newWriter() *codec { return &codec{index: map[string]uint64{}} }

// number carries one unsigned number.
func number[T ~uint8 | ~uint16 | ~uint32 | ~uint64](c *codec, p *T) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, uint64(*p))
		return
	}
	v, n := binary.Uvarint(c.buf)
	if n <= 0 || uint64(T(v)) != v {
		c.fail()
		return
	}
	*p, c.buf = T(v), c.buf[n:]
}

// signed carries one signed number.
func (c *codec) signed(p *int64) {
	zigzag := uint64(*p)<<1 ^ uint64(*p>>63)
	number(c, &zigzag)
	*p = int64(zigzag>>1) ^ -int64(zigzag&1)
}

func (c *codec) flag(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	number(c, &v)
	*p = v != 0
}

func (c *codec) text(p *string) {
	var i uint64
	if !c.reading {
		i = c.intern(*p)
	}
	number(c, &i)
	if !c.reading {
		return
	}
	if i >= uint64(len(c.table)) {
		c.fail()
		return
	}
	*p = c.table[i]
}

func (c *codec) intern(s string) uint64 {
	i, ok := c.index[s]
	if !ok {
		i = uint64(len(c.table))
		c.index[s] = i
		c.table = append(c.table, s)
	}
	return i
}

// list carries a slice. An empty list reads as nil.
func list[T any](c *codec, p *[]T, item func(*T)) {
	n := uint64(len(*p))
	number(c, &n)
	if c.reading {
		// An item takes at least a byte, so a damaged count cannot ask for
		// more room than the input is long.
		if n > uint64(len(c.buf)) {
			c.fail()
			return
		}
		*p = nil
		if n > 0 {
			*p = make([]T, n)
		}
	}
	for i := range *p {
		item(&(*p)[i])
	}
}

func (c *codec) texts(p *[]string) { list(c, p, c.text) }

// fail notes that the input cannot be read and ends it.
func (c *codec) fail() {
	c.err = errDamaged
	c.buf = nil
}

// pack gives a section: the string table, then what was written.
func (c *codec) pack() []byte {
	out := binary.AppendUvarint(nil, uint64(len(c.table)))
	for _, s := range c.table {
		out = binary.AppendUvarint(out, uint64(len(s)))
	}
	for _, s := range c.table {
		out = append(out, s...)
	}
	return append(out, c.buf...)
}

// unpack opens a section for reading. Its strings share one allocation.
func unpack(section []byte) *codec {
	c := &codec{reading: true, buf: section}
	var lengths []uint32
	list(c, &lengths, func(n *uint32) { number(c, n) })
	var total uint64
	for _, n := range lengths {
		total += uint64(n)
	}
	if total > uint64(len(c.buf)) {
		c.fail()
		return c
	}
	all := string(c.buf[:total])
	c.buf = c.buf[total:]
	c.table = make([]string, len(lengths))
	for i, n := range lengths {
		c.table[i], all = all[:n], all[n:]
	}
	return c
}

func (c *codec) resourceType(t *ResourceType) {
	number(c, &t.ID)
	c.text(&t.Name)
	c.flag(&t.Domain)
}

func (c *codec) param(p **SearchParam) {
	if c.reading {
		*p = new(SearchParam)
	}
	s := *p
	number(c, &s.Number)
	c.text(&s.URL)
	c.text(&s.Code)
	c.text(&s.Base)
	number(c, &s.Type)
	c.text(&s.Expression)
	list(c, &s.Targets, func(t *TypeID) { number(c, t) })
	list(c, &s.Components, func(k *Component) {
		c.text(&k.URL)
		c.text(&k.Expression)
	})
	c.texts(&s.Comparators)
	c.texts(&s.Modifiers)
}

func (c *codec) compartment(p *CompartmentDef) {
	c.text(&p.Code)
	c.text(&p.URL)
	list(c, &p.Members, func(m *CompartmentMember) {
		number(c, &m.Type)
		c.texts(&m.Codes)
	})
}

func (c *codec) structure(s *Structure) {
	c.text(&s.Name)
	number(c, &s.Kind)
	c.flag(&s.Abstract)
	c.text(&s.Base)
	c.text(&s.System)
	c.text(&s.Regex)
	c.signed(&s.MinValue)
	c.signed(&s.MaxValue)
	number(c, &s.MaxLength)
	c.invariants(&s.Invariants)
	list(c, &s.Elements, c.element)
}

func (c *codec) element(p **ElementInfo) {
	if c.reading {
		*p = new(ElementInfo)
	}
	e := *p
	c.text(&e.Name)
	c.text(&e.Path)
	c.text(&e.Choice)
	c.text(&e.Type)
	list(c, &e.Types, func(t *TypeRef) {
		c.text(&t.Name)
		c.texts(&t.Targets)
		c.texts(&t.Profiles)
	})
	number(c, &e.Min)
	number(c, &e.Max)
	c.flag(&e.Summary)
	c.flag(&e.Modifier)
	c.flag(&e.XMLAttr)
	number(c, &e.Binding.Strength)
	c.text(&e.Binding.ValueSet)
	c.text(&e.Binding.Max)
	c.invariants(&e.Invariants)
}

func (c *codec) invariants(p *[]Invariant) {
	list(c, p, func(v *Invariant) {
		c.text(&v.Key)
		c.flag(&v.Warning)
		c.text(&v.Expression)
		c.text(&v.Human)
	})
}

func (c *codec) valueSet(v *ValueSet) {
	c.text(&v.URL)
	list(c, &v.Systems, func(s *SystemCodes) {
		c.text(&s.System)
		c.texts(&s.Codes)
	})
	c.texts(&v.Open)
}
