package lsm

import (
	"fmt"
	"testing"
)

// A key keeps its number, however many come behind it, and a table that was emptied
// knows nothing of before.
func TestKeyTable(t *testing.T) {
	table := newKeyTable()
	for round, n := range []int{3 * leastSlots, 10} {
		for i := range n {
			key := fmt.Appendf(nil, "%d-%d", round, i%(n/2))
			if got, want := table.number(key), uint32(i%(n/2)); got != want {
				t.Fatalf("key %q has number %d, want %d", key, got, want)
			}
			key[0] = '?' // it was copied
		}
		if table.number(nil) != uint32(n/2) || table.len() != n/2+1 || len(table.key(uint32(n/2))) != 0 {
			t.Errorf("%d keys, and the empty one has number %d", table.len(), table.number(nil))
		}
		for i := range n / 2 {
			if got := string(table.key(uint32(i))); got != fmt.Sprintf("%d-%d", round, i) {
				t.Fatalf("number %d is key %q", i, got)
			}
		}
		table.reset()
	}
}
