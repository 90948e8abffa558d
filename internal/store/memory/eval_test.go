package memory

import (
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

const (
	person plan.Type = iota + 1
	paper
)

const (
	name plan.Param = iota + 1
	about
)

// small is a world of two people and two papers, one of which is about ann.
func small() (*World, map[string]Candidate) {
	hash := plan.HashKey{9}
	ann := Candidate{Key: plan.Key{Type: person, ID: "ann"}, Updated: at(2), Created: at(1), Entries: []plan.Entry{{Param: name, Value: []byte("ann")}, {Param: name, Value: []byte("0a7")}}}
	bob := Candidate{Key: plan.Key{Type: person, ID: "bob"}, Updated: at(3), Created: at(3)}
	self := hash.Self(ann.Key)
	letter := Candidate{Key: plan.Key{Type: paper, ID: "letter"}, Entries: []plan.Entry{{Param: about, Value: self[:]}, {Param: name, Value: []byte("x")}}}
	blank := Candidate{Key: plan.Key{Type: paper, ID: "blank"}, Entries: []plan.Entry{{Param: about, Value: []byte("short")}}}
	all := []Candidate{ann, bob, letter, blank}
	byID := map[string]Candidate{}
	for _, c := range all {
		byID[c.Key.ID] = c
	}
	return NewWorld(hash, all), byID
}

func at(second int) time.Time { return time.Unix(int64(second), 0) }

// Each condition with the resources that meet it, of all four.
func TestHolds(t *testing.T) {
	term := func(v string) plan.Node { return plan.Term{Param: name, Value: []byte(v)} }
	arms := func(of plan.Type, where plan.Node) []plan.Arm { return []plan.Arm{{Type: of, Where: where}} }
	refs := []plan.Param{about}
	for _, test := range []struct {
		node plan.Node
		want string
	}{
		{nil, "ann bob letter blank"},
		{term("ann"), "ann"},
		{plan.Term{Param: about, Value: []byte("ann")}, ""},
		{plan.Range{Param: name, Low: []byte("a")}, "ann letter"},
		{plan.Range{Param: name, High: []byte("b")}, "ann"},
		{plan.Range{Param: name, Tail: &plan.Tail{At: 2, Low: []byte("7"), High: []byte("8")}}, "ann"},
		{plan.Range{Param: name, Low: []byte("a"), Tail: &plan.Tail{At: 2, Low: []byte("7"), High: []byte("8")}}, ""},
		{plan.Range{Param: name, Tail: &plan.Tail{At: 3}}, "ann"},
		{plan.Contains{Param: name, Part: []byte("n")}, "ann"},
		{plan.Updated{Low: at(3), High: at(4)}, "bob"},
		{plan.Created{High: at(2)}, "ann letter blank"},
		{plan.IDs{IDs: []string{"bob", "letter"}}, "bob letter"},
		{plan.And{}, "ann bob letter blank"},
		{plan.And{term("ann"), term("x")}, ""},
		{plan.And{nil, term("x")}, "letter"},
		{plan.Or{}, ""},
		{plan.Or{term("ann"), term("x")}, "ann letter"},
		{plan.Not{}, ""},
		{plan.Not{Of: term("ann")}, "bob letter blank"},
		{plan.Chain{Params: refs, To: arms(person, nil)}, "letter"},
		{plan.Chain{Params: refs, To: arms(person, term("ann"))}, "letter"},
		{plan.Chain{Params: refs, To: arms(person, term("bob"))}, ""},
		{plan.Chain{Params: refs, To: arms(paper, nil)}, ""},
		{plan.Chain{Params: []plan.Param{name}, To: arms(person, nil)}, ""},
		{plan.Has{Params: refs, From: arms(paper, nil)}, "ann"},
		{plan.Has{Params: refs, From: arms(paper, term("x"))}, "ann"},
		{plan.Has{Params: refs, From: arms(paper, term("y"))}, ""},
		{plan.Has{Params: refs, From: arms(person, nil)}, ""},
		{&plan.Term{Param: name, Value: []byte("ann")}, ""}, // a pointer is no Node; checkPlan refuses it
	} {
		world, all := small()
		var got []string
		for _, id := range []string{"ann", "bob", "letter", "blank"} {
			if world.Holds(test.node, all[id]) {
				got = append(got, id)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%#v holds for %q, not for %q", test.node, got, test.want)
		}
	}
}

func TestMatches(t *testing.T) {
	world, all := small()
	both := []plan.Arm{{Type: person, Where: plan.IDs{IDs: []string{"ann"}}}, {Type: paper}}
	for id, want := range map[string]bool{"ann": true, "bob": false, "letter": true} {
		if world.Matches(both, all[id]) != want {
			t.Errorf("Matches of %s is not %v", id, want)
		}
	}
	if world.Matches(nil, all["ann"]) {
		t.Error("no arms match something")
	}
}

// A resource that is not in the World, an older version say, can be asked about.
func TestHoldsOutsideTheWorld(t *testing.T) {
	world, all := small()
	old := all["letter"]
	old.Key.ID = "older"
	if !world.Holds(plan.Chain{Params: []plan.Param{about}, To: []plan.Arm{{Type: person}}}, old) {
		t.Error("a chain from an older version does not reach the world")
	}
}

func FuzzMoment(f *testing.F) {
	for _, seed := range []string{"", "memory-0", "memory-7", "memory-18446744073709551616", "memory--1", "memory-07", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const newest = 1000
		commit, err := parseMoment("test", store.Moment(text), newest, newest)
		if err == nil && commit > newest {
			t.Errorf("%q is moment %d of %d", text, commit, newest)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzPlace: no token makes a page fail in another way than as invalid, or
// panic when it is compared.
func FuzzPlace(f *testing.F) {
	for _, seed := range []string{`{"o":3}`, `{"k":[{"v":"YQ=="}],"o":1}`, `{"k":[{"m":true,"d":true}],"o":-9223372036854775808}`, `null`, `[]`, ``} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, token []byte, keys int) {
		p, err := parsePlace("test", token, keys)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		own := placeOf(&version{order: 2}, make([]plan.Sort, keys))
		if p.compare(own) != -own.compare(p) {
			t.Errorf("%q compares differently in two directions", token)
		}
	})
}
