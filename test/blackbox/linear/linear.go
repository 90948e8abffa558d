// Package linear races clients over a data store and judges whether what they
// were told is what a store could tell that does one thing after another.
//
//	Client   one client's requests, made by chance, and what it was told
//	Judge    the linearizability checker over all clients' histories
//
// Clients race over groups of three resources: two patients under fixed ids,
// which transactions write together, and an observation that comes and goes by
// conditional create and conditional delete. No request leaves its group, so
// that each group's history is judged on its own. A request whose answer never
// came (the server was killed) may have been carried out at any time after it
// was sent, or never.
package linear

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// Clients is how many race, as FHIR REST's bar has it.
	Clients = 64
	// groups are few enough for four clients to meet in each.
	groups = 16
	// judgeTime bounds the checker.
	judgeTime = 10 * time.Minute
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
	unknown  bool // the answer never came
}

// model says which answers a data store may give that does one thing after
// another.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, groups)
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
	switch {
	case out.unknown:
		return true, g.after(in)
	case out.status == 409:
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

// someID stands for the id of an observation whose maker was never told.
const someID = "?"

// after is the group after a request whose answer never came.
func (g group) after(in step) group {
	switch in.kind {
	case "put":
		if c := g.cells[in.cell]; c.fits(in.match) {
			g.cells[in.cell] = c.put(in.text)
		}
	case "delete":
		if c := g.cells[in.cell]; c.version > 0 && !c.deleted {
			g.cells[in.cell] = cell{c.version + 1, "", true}
		}
	case "transaction":
		if g.cells[0].fits(in.match) {
			for i, c := range g.cells {
				g.cells[i] = c.put(in.text)
			}
		}
	case "create":
		if g.observation == "" {
			g.observation = someID
		}
	case "remove":
		g.observation = ""
	}
	return g
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
	if g.observation == someID && out.status == 200 && out.id != "" {
		g.observation = out.id
		return true, g
	}
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

// Ask sends one request to the store: a target is what stands behind the base
// URL, a header is "Name: value". An error says that no answer came.
type Ask func(method, target, body string, headers ...string) (status int, answer []byte, err error)

// resource is what a step looks for in a resource, or in a Bundle of them.
type resource struct {
	ID    string
	Meta  struct{ VersionID string }
	Name  []struct{ Text string }
	Entry []struct {
		Resource *resource
		Response struct{ Etag string }
	}
}

func (r *resource) version() uint64 { return versionIn(r.Meta.VersionID) }

func (r *resource) text() string {
	if len(r.Name) == 0 {
		return ""
	}
	return r.Name[0].Text
}

// request is a step as it is sent.
func (in step) request() (method, target, body string, headers []string) {
	id := in.id
	patient := func(i int) string {
		return `{"resourceType":"Patient","id":"` + id(i) + `","name":[{"text":"` + in.text + `"}]}`
	}
	criteria := "identifier=http://x|" + strconv.Itoa(in.group)
	entryMatch := ""
	if in.match > 0 {
		headers = []string{fmt.Sprintf(`If-Match: W/"%d"`, in.match)}
		entryMatch = fmt.Sprintf(`,"ifMatch":"W/\"%d\""`, in.match)
	}
	switch in.kind {
	case "read":
		return "GET", "/Patient/" + id(in.cell), "", nil
	case "search":
		return "GET", "/Patient?_id=" + id(0) + "," + id(1), "", nil
	case "put":
		return "PUT", "/Patient/" + id(in.cell), patient(in.cell), headers
	case "delete":
		return "DELETE", "/Patient/" + id(in.cell), "", nil
	case "transaction":
		return "POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[
			{"resource":` + patient(0) + `,"request":{"method":"PUT","url":"Patient/` + id(0) + `"` + entryMatch + `}},
			{"resource":` + patient(1) + `,"request":{"method":"PUT","url":"Patient/` + id(1) + `"}}]}`, nil
	case "create":
		return "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"identifier":[{"system":"http://x","value":"` +
			strconv.Itoa(in.group) + `"}]}`, []string{"If-None-Exist: " + criteria}
	}
	return "DELETE", "/Observation?" + strings.ReplaceAll(criteria, "|", "%7C"), "", nil
}

func (in step) id(i int) string { return fmt.Sprintf("g%d-%d", in.group, i) }

// ask carries a step out.
func ask(do Ask, in step) (told, error) {
	method, target, body, headers := in.request()
	status, raw, err := do(method, target, body, headers...)
	if err != nil {
		return told{unknown: true}, nil
	}
	var r resource
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &r); err != nil {
			return told{}, fmt.Errorf("%s %s: %w: %s", method, target, err, raw)
		}
	}
	return in.told(status, &r), nil
}

func (in step) told(status int, r *resource) told {
	out := told{status: status, id: r.ID}
	switch in.kind {
	case "read", "put":
		out.versions[0] = r.version()
		if in.kind == "read" {
			out.texts[0] = r.text()
		}
	case "search":
		for _, e := range r.Entry {
			i := 0
			if e.Resource.ID == in.id(1) {
				i = 1
			}
			out.versions[i], out.texts[i] = e.Resource.version(), e.Resource.text()
		}
	case "transaction":
		for i, e := range r.Entry {
			out.versions[i] = versionIn(strings.Trim(e.Response.Etag, `W/"`))
		}
	}
	return out
}

func versionIn(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64) // 0 where there is none
	return n
}

// choose makes the next step of a client that has last seen these versions.
func choose(r *rand.Rand, text string, seen map[[2]int]uint64) step {
	kinds := []string{"read", "search", "put", "put", "delete", "transaction", "transaction", "create", "remove"}
	in := step{kind: kinds[r.IntN(len(kinds))], group: r.IntN(groups), cell: r.IntN(2), text: text}
	if in.kind == "transaction" {
		in.cell = 0
	}
	if (in.kind == "put" || in.kind == "transaction") && r.IntN(2) == 0 {
		in.match = seen[[2]int{in.group, in.cell}]
	}
	return in
}

// Client asks so often, until the time is over or until no answer comes, and
// gives what it saw. Ids differ between clients; times count from begun.
func Client(t testing.TB, do Ask, id int, begun time.Time, requests int, end time.Duration) []porcupine.Operation {
	r := rand.New(rand.NewPCG(uint64(id), 7))
	seen := map[[2]int]uint64{}
	var history []porcupine.Operation
	for n := range requests {
		call := time.Since(begun)
		if call > end {
			break
		}
		in := choose(r, fmt.Sprintf("c%d-%d", id, n), seen)
		out, err := ask(do, in)
		if err != nil {
			t.Error(err)
			break
		}
		done := porcupine.Operation{ClientId: id, Input: in, Output: out, Call: int64(call), Return: int64(time.Since(begun))}
		if out.unknown {
			done.Return = math.MaxInt64
			if in.kind != "read" && in.kind != "search" {
				history = append(history, done)
			}
			break
		}
		history = append(history, done)
		if out.versions[0] > 0 {
			seen[[2]int{in.group, in.cell}] = out.versions[0]
		}
	}
	return history
}

// Judge fails the test where no order of the requests explains the answers, and
// where the clients did not race at all.
func Judge(t testing.TB, history []porcupine.Operation) {
	t.Helper()
	statuses := map[string]int{}
	for _, o := range history {
		answer := strconv.Itoa(o.Output.(told).status)
		if o.Output.(told).unknown {
			answer = "unanswered"
		}
		statuses[o.Input.(step).kind+" "+answer]++
	}
	t.Logf("%d requests: %v", len(history), statuses)
	if statuses["transaction 412"] == 0 || statuses["put 412"] == 0 || statuses["create 200"] == 0 || statuses["remove 204"] == 0 {
		t.Error("the clients did not race")
	}
	if result := porcupine.CheckOperationsTimeout(model, history, judgeTime); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %s", result)
	}
}
