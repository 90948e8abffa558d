package lsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Where a value belongs among those of a column is found by the heads as it is by
// looking at all of them: short values, and those that begin alike, included.
func TestKeptValuesFindTheirPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	value := func() []byte {
		v := bytes.Repeat([]byte{'a'}, r.IntN(10))
		for range r.IntN(4) {
			v = append(v, []byte{0, 'a', 'b', 0xff}[r.IntN(4)])
		}
		return v
	}
	for _, size := range []int{0, 1, headsOf - 1, headsOf, headsOf + 1, 3 * headsOf, 400} {
		var all [][]byte
		for range size {
			all = append(all, value())
		}
		slices.SortFunc(all, bytes.Compare)
		all = slices.CompactFunc(all, bytes.Equal)
		var plain keptValues
		for _, v := range all {
			plain.add(v)
		}
		indexed := plain
		indexed.index()
		for range 500 {
			v := value()
			at, met := slices.BinarySearchFunc(all, v, bytes.Compare)
			behind := at
			if met {
				behind++
			}
			for _, values := range []*keptValues{&plain, &indexed} {
				got := fmt.Sprint(values.from(v, false), values.from(v, true))
				if want := fmt.Sprint(at, behind); got != want {
					t.Fatalf("%d values, %d heads: %q belongs at %s, not %s", len(all), len(values.heads), v, got, want)
				}
			}
		}
	}
}
