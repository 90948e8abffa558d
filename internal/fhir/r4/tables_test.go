package r4

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// read decodes every part of a file as the package does.
func read(file []byte) (*Tables, error) {
	all, err := Sections(file)
	if err != nil {
		return nil, err
	}
	return readAll(all)
}

func readAll(all [][]byte) (*Tables, error) {
	c := unpack(all[sectionSearch])
	t := &Tables{}
	c.search(t)
	if c.err != nil {
		return nil, c.err
	}
	structures, err := readStructures(all[sectionStructures])
	if err != nil {
		return nil, err
	}
	for _, name := range structures.names {
		s, err := structures.slots[name].decode()
		if err != nil {
			return nil, err
		}
		s.members = nil
		t.Structures = append(t.Structures, s)
	}
	c = unpack(all[sectionValueSets])
	list(c, &t.ValueSets, c.valueSet)
	return t, c.err
}

func TestFileReadsWhole(t *testing.T) {
	tables, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(tables)
	if err != nil {
		t.Fatal(err)
	}
	back, err := read(again)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, tables) {
		t.Error("what is written differs from what is read")
	}
	if _, err := readSearch(must(unpackSection(file, sectionSearch))); err != nil {
		t.Error(err)
	}
}

// The lock is what promises that numbers never change; the tables must say the
// same.
func TestTablesAgreeWithLock(t *testing.T) {
	f, err := os.Open("numbers.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	locked := map[string]bool{}
	for in := bufio.NewScanner(f); in.Scan(); {
		locked[in.Text()] = true
	}
	tables, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range tables.Types {
		if line := fmt.Sprintf("type %d %s", typ.ID, typ.Name); !locked[line] {
			t.Errorf("not in the lock: %s", line)
		}
	}
	for _, p := range tables.Params {
		if line := fmt.Sprintf("param %d %s %s", p.Number, p.Base, p.Code); !locked[line] {
			t.Errorf("not in the lock: %s", line)
		}
	}
	for line := range locked {
		if strings.HasPrefix(line, "retired ") {
			delete(locked, line)
		}
	}
	if want := len(tables.Types) + len(tables.Params); len(locked) != want {
		t.Errorf("%d numbers in the lock, %d in the tables", len(locked), want)
	}
}

func TestDamagedFile(t *testing.T) {
	other := append([]byte{}, file...)
	other[len(magic)-1]++
	short := file[:len(file)-1]
	flipped := append([]byte{}, file...)
	flipped[len(file)/2] ^= 0x55
	for name, bad := range map[string][]byte{"empty": nil, "other form": other, "short": short, "flipped": flipped} {
		if _, err := read(bad); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRead gives the reader sections that are not ours: it answers with tables
// or an error, and asks for no more memory than the input warrants.
func FuzzRead(f *testing.F) {
	small := &Tables{
		Types:        []ResourceType{{ID: 1, Name: "Patient", Domain: true}},
		Params:       []*SearchParam{{Number: 1, Code: "_id", Base: "Resource", Type: ParamToken, Expression: "Resource.id"}},
		Compartments: []CompartmentDef{{Code: "Patient", Members: []CompartmentMember{{Type: 1, Codes: []string{"link"}}}}},
		Structures: []*Structure{{Name: "Patient", Kind: KindResource, MinValue: -5, Elements: []*ElementInfo{
			{Name: "deceased", Choice: "deceased", Max: Unbounded, Types: []TypeRef{{Name: "boolean"}, {Name: ""}}},
		}}},
		ValueSets: []ValueSet{{URL: "v", Systems: []SystemCodes{{System: "s", Codes: []string{"a", "b"}}}}},
	}
	f.Add(packSearch(small))
	f.Add(packStructures(small))
	f.Add(packValueSets(small))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, section []byte) {
		_, _ = readSearch(section)
		_, _ = readAll([][]byte{section, section, section})
		if s, err := readStructures(section); err == nil {
			for _, name := range s.names {
				_, _ = s.slots[name].decode()
			}
		}
		_, _ = readValueSets(section)
	})
}

// BenchmarkOpenSearch is what a program pays at its first search.
func BenchmarkOpenSearch(b *testing.B) {
	for b.Loop() {
		if _, err := readSearch(must(unpackSection(file, sectionSearch))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenStructures is the first question for a structure, without the
// structure itself.
func BenchmarkOpenStructures(b *testing.B) {
	for b.Loop() {
		if _, err := readStructures(must(unpackSection(file, sectionStructures))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeAll decodes all 684 structures.
func BenchmarkDecodeAll(b *testing.B) {
	s := must(readStructures(must(unpackSection(file, sectionStructures))))
	for b.Loop() {
		for _, name := range s.names {
			if _, err := s.slots[name].decode(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkElement(b *testing.B) {
	for b.Loop() {
		if _, ok := Element("Observation", "valueQuantity"); !ok {
			b.Fatal("not found")
		}
	}
}
