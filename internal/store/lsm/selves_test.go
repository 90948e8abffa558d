package lsm

import (
	"sync/atomic"
	"testing"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The hashes of rows' resources that stores keep take equal parts of one number, and
// are there until there are too many.
func TestHashesKeepToTheirRoom(t *testing.T) {
	var open atomic.Int64
	k := keptSelves{room: 40 * selfBytes, open: &open}
	for _, stores := range []int64{1, 4, 1, 40, 1000} {
		open.Store(stores)
		most := max(selfBytes, k.room/stores)
		for rid := range uint64(100) {
			k.add(rid, plan.Hash{byte(rid)})
			if got := k.bytes(); got > most {
				t.Fatalf("%d bytes with %d stores, which may take %d each", got, stores, most)
			}
			if self, known := k.get(rid); !known || self != (plan.Hash{byte(rid)}) {
				t.Fatalf("row %d was just kept: %v, %v", rid, self, known)
			}
		}
	}
}
