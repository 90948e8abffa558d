package storetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The length of the differential test, each from the environment: TARN_SEED is
// the seed of the first history, TARN_HISTORIES how many there are, TARN_STEPS
// how many steps each has.
const (
	defaultSeed      = 1
	defaultHistories = 6
	defaultSteps     = 250
)

// Bounds of the search for a short failing script.
const (
	shrinkTime = 60 * time.Second
	shrinkRuns = 500
)

// differential runs random histories on the engine and on the twin.
func (x *exam) differential(t *testing.T) {
	seed := setting(t, "TARN_SEED", defaultSeed)
	histories := setting(t, "TARN_HISTORIES", defaultHistories)
	steps := setting(t, "TARN_STEPS", defaultSteps)
	if testing.Short() {
		histories = min(histories, 2)
	}
	var asked, found int
	for n := range histories {
		history := generate(seed+n, int(steps))
		d := compareInTest(t, fmt.Sprintf("seed-%d", seed+n), x.open, Twin, history)
		asked, found = asked+d.asked, found+d.found
		if d.at >= 0 {
			reportDifference(t, x.open, seed+n, history[:d.at+1])
			return
		}
	}
	if found*3 < asked {
		t.Errorf("only %d of %d answers found anything: the histories test too little", found, asked)
	}
	t.Logf("%d histories from seed %d, %d answers, %d not empty", histories, seed, asked, found)
}

// difference is what came out of one comparison.
type difference struct {
	at           int // the first step with different answers; -1: none
	got, want    []string
	asked, found int // questions, and those whose answer is not empty
}

// compareInTest compares in a test of its own, so that its engines are let go.
func compareInTest(t *testing.T, name string, open, twin Opener, steps []step) (d difference) {
	t.Run(name, func(t *testing.T) { d = compare(t, open, twin, steps) })
	return d
}

// compare runs steps on both until an answer differs.
func compare(t testing.TB, open, twin Opener, steps []step) difference {
	a, b := newMachine(t, open), newMachine(t, twin)
	d := difference{at: -1}
	for i, s := range steps {
		got, want := s.do.run(a), s.do.run(b)
		if slices.Equal(got, want) {
			got = frugally(a, s.do, want)
		}
		if !slices.Equal(got, want) || slices.ContainsFunc(want, isBroken) {
			d.at, d.got, d.want = i, got, want
			return d
		}
		if _, ok := s.do.(search); ok {
			d.asked++
			if want[0] != nothing && want[0] != "0" {
				d.found++
			}
		}
	}
	return d
}

func isBroken(line string) bool { return strings.Contains(line, "BROKEN") }

// frugally asks a search again under a bound of work: too costly, or the same
// answer, never a shorter one.
func frugally(m *machine, do action, want []string) []string {
	s, ok := do.(search)
	if !ok {
		return want
	}
	s.next = "" // the token stays that of the question without a bound
	s.plan.Work = int64(1 + len(want)*len(want)%23)
	got := s.run(m)
	if slices.Equal(got, []string{"error: too costly"}) {
		return want
	}
	if s.walk && got[len(got)-1] == "error: too costly" && len(got) <= len(want) {
		return want
	}
	return got
}

// reportDifference makes a failing script short and writes it down.
func reportDifference(t *testing.T, open Opener, seed uint64, steps []step) {
	runs := 0
	steps = shrink(steps, time.Now().Add(shrinkTime), func(candidate []step) bool {
		runs++
		return runs <= shrinkRuns && compareInTest(t, fmt.Sprintf("shrink-%d", runs), open, Twin, candidate).at >= 0
	})
	d := compareInTest(t, "shrunk", open, Twin, steps)
	if d.at < 0 {
		t.Errorf("seed %d: the difference came once and not again (%v); the steps are:\n%s", seed, d, scriptText(steps))
		return
	}
	steps = answeredByTwin(t, steps[:d.at+1])
	text := fmt.Sprintf("# Found by the differential test.\n\n%sseed %d\n%s", scenarioMark, seed, scriptText(steps))
	name := filepath.Join(ownExamples, fmt.Sprintf("seed-%d.test", seed))
	t.Errorf("seed %d: the engine and the twin differ.\ngot:\n%s\nwant:\n%s\nafter:\n%s", seed, indented(d.got), indented(d.want), text)
	if err := os.MkdirAll(ownExamples, 0o755); err != nil {
		t.Errorf("cannot keep the script: %v", err)
		return
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Errorf("cannot keep the script: %v", err)
		return
	}
	t.Logf("the script is kept as %s", name)
}

// answeredByTwin gives steps the answers that the twin gives.
func answeredByTwin(t *testing.T, steps []step) []step {
	answered := slices.Clone(steps)
	t.Run("answers", func(t *testing.T) {
		m := newMachine(t, Twin)
		for i := range answered {
			answered[i].want = answered[i].do.run(m)
		}
	})
	return answered
}

// shrink drops steps, then operations of commits and imports, while the script
// fails: halves first, then ever smaller pieces.
func shrink(steps []step, until time.Time, fails func([]step) bool) []step {
	steps = shrinkList(steps, until, fails)
	for i := range steps {
		inner, ok := opsOf(steps[i].do)
		if !ok || len(inner) < 2 {
			continue
		}
		inner = shrinkList(inner, until, func(ops []opText) bool {
			return len(ops) > 0 && fails(withOps(steps, i, ops))
		})
		steps = withOps(steps, i, inner)
	}
	return steps
}

func shrinkList[E any](list []E, until time.Time, fails func([]E) bool) []E {
	for size := (len(list) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(list) && time.Now().Before(until); {
			shorter := slices.Delete(slices.Clone(list), at, min(at+size, len(list)))
			if fails(shorter) {
				list = shorter
			} else {
				at += size
			}
		}
	}
	return list
}

func opsOf(do action) ([]opText, bool) {
	switch a := do.(type) {
	case commitOps:
		return a.ops, true
	case add:
		return a.ops, true
	}
	return nil, false
}

// withOps is the script with other ops in step i.
func withOps(steps []step, i int, ops []opText) []step {
	changed := slices.Clone(steps)
	switch a := changed[i].do.(type) {
	case commitOps:
		changed[i].do = commitOps{ops}
	case add:
		a.ops = ops
		changed[i].do = a
	}
	return changed
}
