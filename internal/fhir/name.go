package fhir

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Name is the number of an interned member name; 0 is no name. Numbers hold
// within one process only and are never written to disk.
type Name uint16

// MaxNames bounds the names that can be interned. R4 has about 1,700 distinct
// element names; the rest is room for profiles and the code's own.
const MaxNames = 1<<16 - 1

// Intern gives the number of a member name, the same one for the same name. It
// is meant for package variables and compiled tables, so for names the code
// knows; past MaxNames it panics, hence never for names that a request brings
// (see LookupName). It may be called at any time from any goroutine.
func Intern(name string) Name {
	if n := LookupName(name); n != 0 {
		return n
	}
	vocabulary.Lock()
	defer vocabulary.Unlock()
	return vocabulary.add(name)
}

// LookupName gives the number of a name if it was interned, else 0.
func LookupName(name string) Name {
	return names().lookup([]byte(name))
}

// String is the interned name, "" for 0.
func (n Name) String() string {
	if n == 0 {
		return ""
	}
	return names().names[n]
}

// vocabulary is the process-wide list of names. It only ever grows, so a
// number once given stays good, and a reader needs no lock.
var vocabulary = struct {
	sync.Mutex
	nameWriter
}{}

type nameWriter struct {
	table atomic.Pointer[nameTable]
}

func names() *nameTable {
	if t := vocabulary.table.Load(); t != nil {
		return t
	}
	return emptyNames
}

var emptyNames = newNameTable(firstNames)

// firstNames is the first capacity of the table; it doubles from there.
const firstNames = 1 << 10

// nameTable is an open hash table from name to number. Writers (one at a time)
// fill names[n] before they publish the slot that leads to it.
type nameTable struct {
	slots []atomic.Uint64 // hash<<16 | Name; 0 is free
	mask  uint32
	names []string // by Name; names[0] unused
	used  int
}

func newNameTable(capacity int) *nameTable {
	slots := capacity * 4
	return &nameTable{
		slots: make([]atomic.Uint64, slots),
		mask:  uint32(slots - 1),
		names: make([]string, capacity+1),
	}
}

func (t *nameTable) lookup(name []byte) Name {
	h := hashName(name)
	for i := h & t.mask; ; i = (i + 1) & t.mask {
		slot := t.slots[i].Load()
		if slot == 0 {
			return 0
		}
		if uint32(slot>>16) == h {
			if n := Name(slot); t.names[n] == string(name) {
				return n
			}
		}
	}
}

func (t *nameTable) insert(name string, n Name) {
	t.names[n] = name
	t.used++
	h := hashName([]byte(name))
	i := h & t.mask
	for t.slots[i].Load() != 0 {
		i = (i + 1) & t.mask
	}
	t.slots[i].Store(uint64(h)<<16 | uint64(n))
}

// add is called with the lock held.
func (w *nameWriter) add(name string) Name {
	t := w.table.Load()
	if t == nil {
		t = newNameTable(firstNames)
		w.table.Store(t)
	}
	if n := t.lookup([]byte(name)); n != 0 {
		return n
	}
	if t.used == MaxNames {
		panic("fhir: more than MaxNames names interned")
	}
	if t.used+1 == len(t.names) {
		t = t.grown()
		w.table.Store(t)
	}
	n := Name(t.used + 1)
	t.insert(name, n)
	return n
}

func (t *nameTable) grown() *nameTable {
	bigger := newNameTable((len(t.names) - 1) * 2)
	for n := 1; n <= t.used; n++ {
		bigger.insert(t.names[n], Name(n))
	}
	return bigger
}

// hashName mixes length, the first eight bytes and the last eight. It need not
// withstand crafted names: only our own names are in the table.
func hashName(b []byte) uint32 {
	var head, tail uint64
	switch n := len(b); {
	case n >= 8:
		head = binary.LittleEndian.Uint64(b)
		tail = binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		head = uint64(binary.LittleEndian.Uint32(b))
		tail = uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		head = uint64(b[0]) | uint64(b[n/2])<<8 | uint64(b[n-1])<<16
	}
	const odd = 0x9e3779b97f4a7c15 // 2^64 / golden ratio
	h := (head ^ bits.RotateLeft64(tail, 29) ^ uint64(len(b))<<57) * odd
	return uint32(h >> 32)
}
