package lsm_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// A container that very many commits add to, with updates, deletions and purges
// in between, holds what it must.
func TestContainersOfManyCommits(t *testing.T) {
	s := made(t, engine(t, memory(vfs.NewMem())))
	alive := 0
	for n := range 500 {
		ops := []store.Op{put(patient(fmt.Sprint(n)), "{}", name("same"), name(fmt.Sprint(n)))}
		alive++
		switch {
		case n%50 == 49:
			ops = append(ops, store.Op{Kind: store.Purge, Key: patient(fmt.Sprint(n - 5))})
			alive--
		case n%11 == 10:
			ops = append(ops, put(patient(fmt.Sprint(n-1)), "{}", name("same")))
		case n%13 == 12 && n%50 > 10:
			ops = append(ops, store.Op{Kind: store.Delete, Key: patient(fmt.Sprint(n - 10))})
			alive--
		}
		commit(t, s, ops...)
	}
	mustCheck(t, s)
	e := name("same")
	if n := count(t, s, plan.Term(e)); n != int64(alive) {
		t.Errorf("%d found of %d", n, alive)
	}
}
