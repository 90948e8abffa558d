package ucum

import (
	"math/big"
	"strings"
	"sync"
)

// atom is a unit that is written as one.
type atom struct {
	unit   *Unit
	metric bool // takes prefixes
}

var prefixes = readPrefixes()

// catalogue is every atom by its code, read at the first use.
var catalogue = sync.OnceValue(readCatalogue)

func readPrefixes() map[string]*big.Rat {
	all := map[string]*big.Rat{}
	fields := strings.Fields(prefixTable)
	for i := 0; i < len(fields); i += 2 {
		all[fields[i]] = rational(fields[i+1])
	}
	return all
}

// rational reads a number of the tables, a quotient or a product too.
func rational(text string) *big.Rat {
	r := big.NewRat(1, 1)
	for factor := range strings.SplitSeq(text, "*") {
		f, ok := new(big.Rat).SetString(factor)
		if !ok {
			panic("ucum: the table holds " + text)
		}
		r.Mul(r, f)
	}
	return r
}

// definition is a line of a table that is not read yet.
type definition struct {
	amount *big.Rat
	of     string
	metric bool
}

func readCatalogue() map[string]atom {
	atoms := map[string]atom{}
	for code := range strings.FieldsSeq(baseTable) {
		atoms[code] = atom{base(code), true}
	}
	readSpecial(atoms)
	waiting := map[string]definition{}
	readTable(waiting, metricTable, true)
	readTable(waiting, otherTable, false)
	for len(waiting) > 0 {
		before := len(waiting)
		for code, d := range waiting {
			if u, ok := d.read(atoms, code); ok {
				atoms[code] = atom{u, d.metric}
				delete(waiting, code)
			}
		}
		if len(waiting) == before {
			panic("ucum: the table goes round in circles")
		}
	}
	return atoms
}

func base(code string) *Unit {
	u := number(big.NewRat(1, 1))
	u.powers[code] = 1
	u.settle()
	return u
}

func readTable(into map[string]definition, table string, metric bool) {
	for row := range strings.Lines(table) {
		if f := strings.Fields(row); len(f) == 3 {
			into[f[0]] = definition{rational(f[1]), f[2], metric}
		}
	}
}

// read makes a unit once those that it is made of are there. A unit that is
// itself is arbitrary (4.6): a dimension of its own.
func (d definition) read(atoms map[string]atom, code string) (*Unit, bool) {
	if d.of == code {
		return base(code), true
	}
	u, ok := parse(atoms, d.of)
	if !ok {
		return nil, false
	}
	u, ok = number(d.amount).multiply(u, 1)
	if ok {
		u.settle()
	}
	return u, ok
}

func readSpecial(atoms map[string]atom) {
	for row := range strings.Lines(specialTable) {
		f := strings.Fields(row)
		if len(f) < 2 {
			continue
		}
		u := base(f[0])
		u.opaque = true
		if len(f) == 4 {
			slope, _ := rational(f[2]).Float64()
			offset, _ := rational(f[3]).Float64()
			u = base("K")
			u.line = &line{slope, offset}
		}
		atoms[f[0]] = atom{u, f[1] == "metric"}
	}
}
