package fhirapi_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Clients race over groups of three resources: two patients under fixed ids,
// which transactions write together, and an observation that comes and goes by
// conditional create and conditional delete. No request leaves its group, so
// that each group's history is judged on its own.
const (
	linearGroups = 16
	// linearRequests is how much one client asks: a count, so that a slow machine
	// sees the same race. TARN_LINEARIZE lets them race for a time instead, and
	// linearMost then bounds what one asks, so that the history of a fast machine
	// can still be judged.
	linearRequests = 40
	linearMost     = 2000
	// judgeTime bounds the checker.
	judgeTime = 5 * time.Minute
)

// cell is one patient: its current version, deletions included; 0 is never.
type cell struct {
	version uint64
	text    string
	deleted bool
}

func (c cell) put(text string) cell { return cell{c.version + 1, text, false} }

// group is the state of one group.
type group struct {
	cells       [2]cell
	observation string // the id; empty for none
}

// step is a request: what is asked.
type step struct {
	kind  string
	group int
	cell  int
	match uint64 // ifMatch; 0 is none
	text  string
}

// told is its answer.
type told struct {
	status   int
	versions [2]uint64
	texts    [2]string // reads; empty for what is not there
	id       string
}

// model says which answers a data store may give that does one thing after
// another.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, linearGroups)
		for _, o := range history {
			g := o.Input.(step).group
			parts[g] = append(parts[g], o)
		}
		return parts
	},
	Init: func() any { return group{} },
	Step: func(state, input, output any) (bool, any) {
		before, in, out := state.(group), input.(step), output.(told)
		return next(before, in, out)
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

func next(g group, in step, out told) (bool, group) {
	if out.status == 409 {
		return true, g // it lost too many races, and nothing was done
	}
	switch in.kind {
	case "read":
		return g.read(in, out)
	case "search":
		ok := out.status == 200
		for i, c := range g.cells {
			ok = ok && (c.version == 0 || c.deleted) == (out.texts[i] == "") && (out.texts[i] == "" || out.texts[i] == c.text && out.versions[i] == c.version)
		}
		return ok, g
	case "put":
		return g.put(in, out)
	case "delete":
		return g.delete(in, out)
	case "transaction":
		return g.transaction(in, out)
	case "create":
		return g.create(out)
	}
	return g.remove(out)
}

func (g group) read(in step, out told) (bool, group) {
	switch c := g.cells[in.cell]; {
	case c.version == 0:
		return out.status == 404, g
	case c.deleted:
		return out.status == 410, g
	default:
		return out.status == 200 && out.versions[0] == c.version && out.texts[0] == c.text, g
	}
}

// fits reports whether ifMatch holds: a deleted resource has no current version
// to match.
func (c cell) fits(match uint64) bool { return match == 0 || c.version == match && !c.deleted }

func (g group) put(in step, out told) (bool, group) {
	c := g.cells[in.cell]
	if !c.fits(in.match) {
		return out.status == 412, g
	}
	want := 200
	if c.version == 0 || c.deleted {
		want = 201
	}
	g.cells[in.cell] = c.put(in.text)
	return out.status == want && out.versions[0] == c.version+1, g
}

func (g group) delete(in step, out told) (bool, group) {
	switch c := g.cells[in.cell]; {
	case c.version == 0:
		return out.status == 404, g
	case c.deleted:
		return out.status == 204, g
	default:
		g.cells[in.cell] = cell{c.version + 1, "", true}
		return out.status == 204, g
	}
}

func (g group) transaction(in step, out told) (bool, group) {
	if !g.cells[0].fits(in.match) {
		return out.status == 412, g
	}
	for i, c := range g.cells {
		if out.versions[i] != c.version+1 {
			return false, g
		}
		g.cells[i] = c.put(in.text)
	}
	return out.status == 200, g
}

func (g group) create(out told) (bool, group) {
	if g.observation != "" {
		return out.status == 200 && out.id == g.observation, g
	}
	g.observation = out.id
	return out.status == 201 && out.id != "", g
}

func (g group) remove(out told) (bool, group) {
	if g.observation == "" {
		return out.status == 404, g
	}
	g.observation = ""
	return out.status == 204, g
}

// ask carries a step out.
func (s *server) ask(t *testing.T, in step) told {
	id := func(i int) string { return fmt.Sprintf("g%d-%d", in.group, i) }
	patient := func(i int) string {
		return `{"resourceType":"Patient","id":"` + id(i) + `","name":[{"text":"` + in.text + `"}]}`
	}
	criteria := "identifier=http://x|" + strconv.Itoa(in.group)
	var match []string
	entryMatch := ""
	if in.match > 0 {
		match = []string{fmt.Sprintf(`If-Match: W/"%d"`, in.match)}
		entryMatch = fmt.Sprintf(`,"ifMatch":"W/\"%d\""`, in.match)
	}
	var a answer
	var out told
	switch in.kind {
	case "read":
		a = s.do(t, "GET", "/Patient/"+id(in.cell), "")
		out.versions[0], out.texts[0] = versionIn(a.text("meta.versionId")), a.text("name[0].text")
	case "search":
		a = s.do(t, "GET", "/Patient?_id="+id(0)+","+id(1), "")
		for e := range a.at("entry").Items() {
			i := 0
			if e.Get("resource").Get("id").Is(id(1)) {
				i = 1
			}
			out.versions[i] = versionIn(e.Get("resource").Get("meta").Get("versionId").Text())
			out.texts[i] = e.Get("resource").Get("name").Index(0).Get("text").Text()
		}
	case "put":
		a = s.do(t, "PUT", "/Patient/"+id(in.cell), patient(in.cell), match...)
		out.versions[0] = versionIn(a.text("meta.versionId"))
	case "delete":
		a = s.do(t, "DELETE", "/Patient/"+id(in.cell), "")
	case "transaction":
		a = s.do(t, "POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[
			{"resource":`+patient(0)+`,"request":{"method":"PUT","url":"Patient/`+id(0)+`"`+entryMatch+`}},
			{"resource":`+patient(1)+`,"request":{"method":"PUT","url":"Patient/`+id(1)+`"}}]}`)
		for i := range out.versions {
			out.versions[i] = versionIn(strings.Trim(a.at("entry").Index(i).Get("response").Get("etag").Text(), `W/"`))
		}
	case "create":
		a = s.do(t, "POST", "/Observation", `{"resourceType":"Observation","identifier":[{"system":"http://x","value":"`+strconv.Itoa(in.group)+`"}]}`, "If-None-Exist: "+criteria)
		out.id = a.text("id")
	case "remove":
		a = s.do(t, "DELETE", "/Observation?"+criteria, "")
	}
	out.status = a.status
	return out
}

func versionIn(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64) // 0 where there is none
	return n
}

// choose makes the next step of a client that has last seen these versions.
func choose(r *rand.Rand, text string, seen map[[2]int]uint64) step {
	kinds := []string{"read", "search", "put", "put", "delete", "transaction", "transaction", "create", "remove"}
	in := step{kind: kinds[r.IntN(len(kinds))], group: r.IntN(linearGroups), cell: r.IntN(2), text: text}
	if in.kind == "transaction" {
		in.cell = 0
	}
	if (in.kind == "put" || in.kind == "transaction") && r.IntN(2) == 0 {
		in.match = seen[[2]int{in.group, in.cell}]
	}
	return in
}

// client asks so often, or until the time is over, and gives what it saw.
func (s *server) client(t *testing.T, id int, begun time.Time, requests int, end time.Duration) []porcupine.Operation {
	r := rand.New(rand.NewPCG(uint64(id), 7))
	seen := map[[2]int]uint64{}
	var history []porcupine.Operation
	for n := range requests {
		call := time.Since(begun)
		if call > end {
			break
		}
		in := choose(r, fmt.Sprintf("c%d-%d", id, n), seen)
		out := s.ask(t, in)
		history = append(history, porcupine.Operation{ClientId: id, Input: in, Output: out, Call: int64(call), Return: int64(time.Since(begun))})
		if out.versions[0] > 0 {
			seen[[2]int{in.group, in.cell}] = out.versions[0]
		}
	}
	return history
}

// 64 clients race conditional creates and deletes, version-aware updates,
// transactions, deletes and reads; what they are told is what a store could tell
// that does one thing after another (issue 5's bar).
func TestLinearizable(t *testing.T) {
	requests, end := linearRequests, time.Duration(math.MaxInt64)
	if text := os.Getenv("TARN_LINEARIZE"); text != "" {
		var err error
		if end, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		requests = linearMost
	}
	for name, open := range map[string]func(testing.TB) *server{"memory": newServer, "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			s, begun := open(t), time.Now()
			var mu sync.Mutex
			var wg sync.WaitGroup
			var history []porcupine.Operation
			for id := range racers {
				wg.Go(func() {
					mine := s.client(t, id, begun, requests, end)
					mu.Lock()
					defer mu.Unlock()
					history = append(history, mine...)
				})
			}
			wg.Wait()
			judge(t, history)
		})
	}
}

func judge(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	statuses := map[string]int{}
	for _, o := range history {
		statuses[fmt.Sprint(o.Input.(step).kind, " ", o.Output.(told).status)]++
	}
	t.Logf("%d requests: %v", len(history), statuses)
	if statuses["transaction 412"] == 0 || statuses["put 412"] == 0 || statuses["create 200"] == 0 || statuses["remove 204"] == 0 {
		t.Error("the clients did not race")
	}
	if result := porcupine.CheckOperationsTimeout(model, history, judgeTime); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %s", result)
	}
}

// The model is not one that takes everything.
func TestModelRefuses(t *testing.T) {
	put := func(text string, version uint64, status int, call, end int64) porcupine.Operation {
		return porcupine.Operation{Input: step{kind: "put", text: text}, Output: told{status: status, versions: [2]uint64{version}}, Call: call, Return: end}
	}
	read := func(text string, version uint64, call, end int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: step{kind: "read"}, Output: told{status: 200, versions: [2]uint64{version}, texts: [2]string{text}}, Call: call, Return: end}
	}
	tests := []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"in order", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 3), read("b", 2, 4, 5)}, true},
		{"at the same time", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 6), read("a", 1, 4, 5)}, true},
		{"a stale read", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 3), read("a", 1, 4, 5)}, false},
		{"a lost update", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 1, 201, 2, 3)}, false},
	}
	for _, tt := range tests {
		if got := porcupine.CheckOperations(model, tt.history); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
