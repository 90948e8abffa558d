package fhirapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// racers is how many clients race, as issue 5 has it.
const racers = 64

// race sends one request per client at once and gives the answers by client.
func race(t *testing.T, request func(i int) answer) []answer {
	t.Helper()
	answers := make([]answer, racers)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			<-begin
			answers[i] = request(i)
		})
	}
	close(begin)
	wg.Wait()
	return answers
}

func statuses(answers []answer) map[int]int {
	count := map[int]int{}
	for _, a := range answers {
		count[a.status]++
	}
	return count
}

// Raced conditional creates give one resource, and everybody learns which (R4
// http.html#ccreate).
func TestRacedConditionalCreates(t *testing.T) {
	for name, s := range map[string]*server{"memory": newServer(t), "disk": onDisk(t)} {
		t.Run(name, func(t *testing.T) {
			answers := race(t, func(int) answer {
				return s.do(t, "POST", "/Patient", `{"resourceType":"Patient","identifier":[{"system":"http://x","value":"1"}]}`,
					"If-None-Exist: identifier=http://x|1")
			})
			if got := statuses(answers); got[http.StatusCreated] != 1 || got[http.StatusOK] != racers-1 {
				t.Errorf("statuses %v", got)
			}
			for _, a := range answers {
				if a.text("id") != answers[0].text("id") {
					t.Errorf("two resources: %s, %s", a.text("id"), answers[0].text("id"))
				}
			}
			if a := s.must(t, "GET", "/Patient?_summary=count", ""); a.text("total") != "1" {
				t.Errorf("%s resources", a.text("total"))
			}
		})
	}
}

// Raced version-aware updates have one winner (R4 http.html#concurrency).
func TestRacedUpdates(t *testing.T) {
	s := newServer(t)
	s.must(t, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	answers := race(t, func(int) answer {
		return s.do(t, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`, `If-Match: W/"1"`)
	})
	if got := statuses(answers); got[http.StatusOK] != 1 || got[http.StatusPreconditionFailed] != racers-1 {
		t.Errorf("statuses %v", got)
	}
	answers = race(t, func(int) answer {
		return s.do(t, "PUT", "/Patient/b", `{"resourceType":"Patient","id":"b"}`, "If-None-Match: *")
	})
	if got := statuses(answers); got[http.StatusCreated] != 1 || got[http.StatusPreconditionFailed] != racers-1 {
		t.Errorf("statuses %v", got)
	}
}

// Raced patches lose nothing: each is applied to what the one before made, or
// says that it was not (R4 http.html#patch).
func TestRacedPatches(t *testing.T) {
	s := newServer(t)
	s.must(t, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a","name":[]}`)
	answers := race(t, func(i int) answer {
		return s.do(t, "PATCH", "/Patient/a", fmt.Sprintf(`[{"op":"add","path":"/name/-","value":{"text":"%d"}}]`, i))
	})
	got := statuses(answers)
	if got[http.StatusOK]+got[http.StatusConflict] != racers || got[http.StatusOK] == 0 {
		t.Errorf("statuses %v", got)
	}
	a := s.must(t, "GET", "/Patient/a", "")
	if n := a.at("name").Len(); n != got[http.StatusOK] {
		t.Errorf("%d patches succeeded, %d names are there", got[http.StatusOK], n)
	}
}

// Raced idempotency keys create once (healthlake.md 2.4).
func TestRacedIdempotencyKeys(t *testing.T) {
	s := newServer(t)
	answers := race(t, func(int) answer {
		return s.do(t, "POST", "/Patient", `{"resourceType":"Patient"}`, "x-amz-fhir-idempotency-key: 0f8fad5b-d9cb-469f-a165-70867728950e")
	})
	if got := statuses(answers); got[http.StatusCreated] != 1 || got[http.StatusConflict] != racers-1 {
		t.Errorf("statuses %v", got)
	}
	for _, a := range answers {
		if a.status == http.StatusConflict && a.header.Get("Location") == "" {
			t.Error("a duplicate without Location")
		}
	}
}

// Raced transactions with the same conditional create and conditional update
// give one resource each (R4 http.html#trules).
func TestRacedTransactions(t *testing.T) {
	s := newServer(t)
	answers := race(t, func(i int) answer {
		return s.do(t, "POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[
			{"fullUrl":"urn:uuid:1","request":{"method":"POST","url":"Organization","ifNoneExist":"identifier=1"},"resource":{"resourceType":"Organization","identifier":[{"value":"1"}]}},
			{"request":{"method":"PUT","url":"Patient?identifier=2"},"resource":{"resourceType":"Patient","identifier":[{"value":"2"}],"managingOrganization":{"reference":"urn:uuid:1"}}},
			{"request":{"method":"POST","url":"Observation"},"resource":{"resourceType":"Observation","subject":{"reference":"Patient?identifier=2"}}}]}`)
	})
	ok := statuses(answers)[http.StatusOK]
	if got := statuses(answers); ok == 0 || ok+got[http.StatusConflict] != racers {
		t.Errorf("statuses %v", got)
	}
	for target, want := range map[string]int{"/Organization": 1, "/Patient": 1, "/Observation": ok, "/Observation?subject.organization.identifier=1": ok} {
		if a := s.must(t, "GET", target, ""); a.text("total") != strconv.Itoa(want) {
			t.Errorf("%s: total %s, want %d", target, a.text("total"), want)
		}
	}
}

// All pages of a search see the same moment while writes go on: nothing twice,
// nothing missing, nothing newer (design: a read looks at one moment).
func TestPagesAreStable(t *testing.T) {
	for name, s := range map[string]*server{"memory": newServer(t), "disk": onDisk(t)} {
		t.Run(name, func(t *testing.T) { pagesAreStable(t, s) })
	}
}

func pagesAreStable(t *testing.T, s *server) {
	var want []string
	for i := range 30 {
		id := fmt.Sprintf("p%02d", i)
		want = append(want, id)
		s.must(t, "PUT", "/Patient/"+id, fmt.Sprintf(`{"resourceType":"Patient","id":%q,"gender":"male","birthDate":"19%02d-01-01"}`, id, i+10))
	}
	for _, sort := range []string{"", "&_sort=birthdate", "&_sort=-_id", "&_sort=_lastUpdated"} {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("p%02d", i%30)
				s.do(t, "DELETE", "/Patient/"+id, "")
				s.do(t, "PUT", "/Patient/"+id, fmt.Sprintf(`{"resourceType":"Patient","id":%q,"gender":"male","birthDate":"19%02d-01-01"}`, id, i%30+10))
			}
		})
		var got []string
		a := s.must(t, "GET", "/Patient?gender=male&_count=7&_total=accurate"+sort, "")
		total := a.text("total")
		for {
			got = append(got, a.ids("match")...)
			next := a.link("next")
			if next == "" {
				break
			}
			a = s.must(t, "GET", next, "")
			if a.text("total") != total {
				t.Errorf("%s: the total changed from %s to %s", sort, total, a.text("total"))
			}
		}
		close(stop)
		wg.Wait()
		slices.Sort(got)
		// One of them may have been deleted at the search's moment.
		if n, _ := strconv.Atoi(total); n != len(got) || n < len(want)-1 || len(slices.Compact(slices.Clone(got))) != n {
			t.Errorf("%s: total %s, pages gave %v", sort, total, got)
		}
		s.must(t, "POST", "/", restore(want))
	}
}

func restore(ids []string) string {
	b := `{"resourceType":"Bundle","type":"batch","entry":[`
	for i, id := range ids {
		if i > 0 {
			b += ","
		}
		b += fmt.Sprintf(`{"request":{"method":"PUT","url":"Patient/%s"},"resource":{"resourceType":"Patient","id":%q,"gender":"male","birthDate":"19%02d-01-01"}}`, id, id, i+10)
	}
	return b + "]}"
}

// A link goes on when the client re-encodes it or changes _count, and leads
// back again (healthlake.md 3.8, pain point 2).
func TestLinks(t *testing.T) {
	s := newServer(t)
	for i := range 10 {
		s.must(t, "PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
	}
	first := s.must(t, "GET", "/Patient?_sort=_id&_count=3", "")
	if got := first.ids("match"); !slices.Equal(got, []string{"p0", "p1", "p2"}) || first.link("previous") != "" {
		t.Fatalf("first page %v", got)
	}
	next := first.link("next")
	second := s.must(t, "GET", next, "")
	if got := second.ids("match"); !slices.Equal(got, []string{"p3", "p4", "p5"}) {
		t.Errorf("second page %v", got)
	}
	if self := second.link("self"); self != first.link("self") {
		t.Errorf("self changed to %s", self)
	}
	token := next[len("/Patient?_count=3&page="):]
	larger := s.must(t, "GET", "/Patient?page="+token+"&_count=5", "")
	if got := larger.ids("match"); !slices.Equal(got, []string{"p3", "p4", "p5", "p6", "p7"}) {
		t.Errorf("with another count: %v", got)
	}
	back := s.must(t, "GET", second.link("previous"), "")
	if got := back.ids("match"); !slices.Equal(got, first.ids("match")) {
		t.Errorf("previous of the second page: %v", got)
	}
	back = s.must(t, "GET", s.must(t, "GET", second.link("next"), "").link("first"), "")
	if got := back.ids("match"); !slices.Equal(got, first.ids("match")) {
		t.Errorf("first of the third page: %v", got)
	}
	for _, bad := range []string{"/Observation?page=" + token, "/Patient?page=" + token[:len(token)-2] + "AA", "/Patient?page=!"} {
		if a := s.do(t, "GET", bad, ""); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, a.status)
		}
	}
}
