package lsm

import (
	"bytes"
	"hash/maphash"
)

// keyTable gives each of many keys a number, in the order in which they come. It
// is what a map of strings is, without a piece of memory for each key, and can be
// emptied and filled again in the same memory.
type keyTable struct {
	seed  maphash.Seed
	slots []uint64 // hash:32 number+1:32, where the hash leads to or behind it; 0: free
	bytes []byte   // the keys, one after the other
	ends  []uint32 // where each ends
}

// leastSlots is how many slots a table begins with, a power of two.
const leastSlots = 1 << 10

func newKeyTable() keyTable {
	return keyTable{seed: maphash.MakeSeed(), slots: make([]uint64, leastSlots)}
}

func (t *keyTable) len() int { return len(t.ends) }

// key gives a key by its number, valid until the table is emptied.
func (t *keyTable) key(n uint32) []byte {
	begin := uint32(0)
	if n > 0 {
		begin = t.ends[n-1]
	}
	return t.bytes[begin:t.ends[n]:t.ends[n]]
}

// number gives the number of a key, which is copied when it is new.
func (t *keyTable) number(key []byte) uint32 {
	hash := uint32(maphash.Bytes(t.seed, key))
	mask := uint32(len(t.slots) - 1)
	at := hash & mask
	for ; t.slots[at] != 0; at = (at + 1) & mask {
		if slot := t.slots[at]; uint32(slot>>32) == hash && bytes.Equal(t.key(uint32(slot)-1), key) {
			return uint32(slot) - 1
		}
	}
	t.bytes = append(t.bytes, key...)
	t.ends = append(t.ends, uint32(len(t.bytes)))
	t.slots[at] = uint64(hash)<<32 | uint64(len(t.ends))
	if 2*len(t.ends) > len(t.slots) {
		t.grow()
	}
	return uint32(len(t.ends)) - 1
}

// grow makes the slots twice as many.
func (t *keyTable) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	mask := uint32(len(t.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		at := uint32(slot>>32) & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = slot
	}
}

// reset empties the table.
func (t *keyTable) reset() {
	clear(t.slots)
	t.bytes, t.ends = t.bytes[:0], t.ends[:0]
}
