package r4

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Tables is all that r4.tables holds: what the generator writes.
type Tables struct {
	Types        []ResourceType // by ID
	Params       []*SearchParam // by Number
	Compartments []CompartmentDef
	Structures   []*Structure
	ValueSets    []ValueSet
}

//go:embed r4.tables
var file []byte

// magic opens the file; its last byte is the version of the form.
const magic = "tarn-r4\x01"

// The sections, in file order.
const (
	sectionSearch = iota
	sectionStructures
	sectionValueSets
	sections
)

// maxSectionBytes bounds an unpacked section; the largest is near 1 MiB.
const maxSectionBytes = 16 << 20

// Encode writes the tables as r4.tables holds them: the magic, then each section
// as a four-byte big-endian length and that many bytes of zstd. It is the
// generator's; encoding equal tables gives equal sections.
func Encode(t *Tables) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("r4: %w", err)
	}
	out := []byte(magic)
	for _, section := range [sections][]byte{packSearch(t), packStructures(t), packValueSets(t)} {
		packed := enc.EncodeAll(section, nil)
		out = binary.BigEndian.AppendUint32(out, uint32(len(packed)))
		out = append(out, packed...)
	}
	return out, nil
}

// Sections gives the unpacked sections of a file as Encode writes it, so that
// two files can be compared whatever release of zstd packed them.
func Sections(file []byte) ([][]byte, error) {
	all := make([][]byte, sections)
	for i := range all {
		raw, err := unpackSection(file, i)
		if err != nil {
			return nil, err
		}
		all[i] = raw
	}
	return all, nil
}

func unpackSection(file []byte, section int) ([]byte, error) {
	rest, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok {
		return nil, errDamaged
	}
	for ; ; section-- {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return nil, errDamaged
		}
		n := binary.BigEndian.Uint32(rest)
		if section == 0 {
			return inflate(rest[4 : 4+n])
		}
		rest = rest[4+n:]
	}
}

func inflate(packed []byte) ([]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxSectionBytes))
	if err != nil {
		return nil, fmt.Errorf("r4: %w", err)
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return raw, nil
}

// must gives what was read from the embedded file. That file is part of the
// program and its reading is tested; were it damaged, nothing in the program
// could be trusted, so it ends.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func packSearch(t *Tables) []byte {
	c := newWriter()
	c.search(t)
	return c.pack()
}

func (c *codec) search(t *Tables) {
	list(c, &t.Types, c.resourceType)
	list(c, &t.Params, c.param)
	list(c, &t.Compartments, c.compartment)
}

// searchTables is the search section, indexed.
type searchTables struct {
	types        []*ResourceType // by ID; nil where a number is not given
	ids          []TypeID
	byName       map[string]*ResourceType
	all          []*SearchParam
	common       []*SearchParam
	byNumber     map[uint16]*SearchParam
	params       []typeParams // by TypeID
	compartments []CompartmentDef
}

// typeParams are the search parameters of one resource type.
type typeParams struct {
	list   []*SearchParam // by code
	byCode map[string]*SearchParam
}

var search = sync.OnceValue(func() *searchTables {
	return must(readSearch(must(unpackSection(file, sectionSearch))))
})

func readSearch(section []byte) (*searchTables, error) {
	c := unpack(section)
	var t Tables
	c.search(&t)
	if c.err != nil {
		return nil, c.err
	}
	s := &searchTables{byName: map[string]*ResourceType{}, byNumber: map[uint16]*SearchParam{}}
	s.all, s.compartments = t.Params, t.Compartments
	if err := s.addTypes(t.Types); err != nil {
		return nil, err
	}
	s.addParams()
	s.link()
	return s, nil
}

func (s *searchTables) addTypes(types []ResourceType) error {
	for i := range types {
		t := &types[i]
		if t.ID >= plan.SystemTypes || t.ID == 0 {
			return errDamaged
		}
		s.byName[t.Name] = t
		s.ids = append(s.ids, t.ID)
		if grow := int(t.ID) + 1 - len(s.types); grow > 0 {
			s.types = append(s.types, make([]*ResourceType, grow)...)
		}
		s.types[t.ID] = t
	}
	return nil
}

func (s *searchTables) typeOf(id TypeID) *ResourceType {
	if int(id) >= len(s.types) {
		return nil
	}
	return s.types[id]
}

// addParams gives each type its own parameters and those of its ancestors.
func (s *searchTables) addParams() {
	own := map[string][]*SearchParam{}
	for _, p := range s.all {
		s.byNumber[p.Number] = p
		own[p.Base] = append(own[p.Base], p)
	}
	s.common = sortedByCode(own["Resource"])
	s.params = make([]typeParams, len(s.types))
	for _, t := range s.types {
		if t == nil {
			continue
		}
		list := slices.Concat(own["Resource"], own[t.Name])
		if t.Domain {
			list = append(list, own["DomainResource"]...)
		}
		byCode := make(map[string]*SearchParam, len(list))
		for _, p := range list {
			byCode[p.Code] = p
		}
		s.params[t.ID] = typeParams{sortedByCode(list), byCode}
	}
}

func sortedByCode(list []*SearchParam) []*SearchParam {
	slices.SortFunc(list, func(a, b *SearchParam) int { return strings.Compare(a.Code, b.Code) })
	return list
}

// link points the components of composites to their parameters.
func (s *searchTables) link() {
	for _, p := range s.all {
		t, ok := s.byName[p.Base]
		if !ok {
			continue
		}
		for i := range p.Components {
			k := &p.Components[i]
			for _, q := range s.params[t.ID].list {
				if q.URL == k.URL {
					k.Param = q
				}
			}
		}
	}
}

// packStructures writes each structure as a name, a length and that many bytes,
// so that one can be read without the others.
func packStructures(t *Tables) []byte {
	c := newWriter()
	n := uint64(len(t.Structures))
	number(c, &n)
	for _, s := range t.Structures {
		c.text(&s.Name)
		before := c.buf
		c.buf = nil
		c.structure(s)
		body := c.buf
		c.buf = append(binary.AppendUvarint(before, uint64(len(body))), body...)
	}
	return c.pack()
}

// structureTables is the structures section: a slot per type, read on demand.
type structureTables struct {
	names []string // in file order
	slots map[string]*slot
}

// slot is one structure, decoded when first asked for.
type slot struct {
	once   sync.Once
	table  []string
	packed []byte
	read   *Structure
}

var structures = sync.OnceValue(func() *structureTables {
	return must(readStructures(must(unpackSection(file, sectionStructures))))
})

func readStructures(section []byte) (*structureTables, error) {
	c := unpack(section)
	t := &structureTables{slots: map[string]*slot{}}
	var n uint64
	number(c, &n)
	for ; n > 0 && c.err == nil; n-- {
		var name string
		var length uint64
		c.text(&name)
		number(c, &length)
		if length > uint64(len(c.buf)) {
			c.fail()
			break
		}
		t.names = append(t.names, name)
		t.slots[name] = &slot{table: c.table, packed: c.buf[:length]}
		c.buf = c.buf[length:]
	}
	return t, c.err
}

func (s *slot) get() *Structure {
	s.once.Do(func() { s.read = must(s.decode()) })
	return s.read
}

func (s *slot) decode() (*Structure, error) {
	c := &codec{reading: true, buf: s.packed, table: s.table}
	var v Structure
	c.structure(&v)
	v.index()
	return &v, c.err
}

// StructureNames lists the names StructureOf knows: data types, resources, then
// their backbone elements, each after its parent.
func StructureNames() []string { return structures().names }

func packValueSets(t *Tables) []byte {
	c := newWriter()
	list(c, &t.ValueSets, c.valueSet)
	return c.pack()
}

var valueSets = sync.OnceValue(func() map[string]*ValueSet {
	return must(readValueSets(must(unpackSection(file, sectionValueSets))))
})

func readValueSets(section []byte) (map[string]*ValueSet, error) {
	c := unpack(section)
	var all []ValueSet
	list(c, &all, c.valueSet)
	if c.err != nil {
		return nil, c.err
	}
	byURL := make(map[string]*ValueSet, len(all))
	for i := range all {
		byURL[all[i].URL] = &all[i]
	}
	return byURL, nil
}
