package blackbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// version is what is known of one patient: who it is, what its last write said.
type version struct {
	identifier string // unique in the store
	id         string // empty until the server gave one
	number     int
	marker     string // the family name its last write gave it
	deleted    bool
}

// pending is a write whose answer never came: all its patients are after it, or
// all before.
type pending struct {
	before, after []version // in pairs; before[i].number 0: it was not there
}

// model is what must be there: what was acknowledged, and what may be.
type model struct {
	mu      sync.Mutex
	known   map[string]version // by identifier
	pending []pending
}

func newModel() *model { return &model{known: map[string]version{}} }

func (m *model) acknowledged(all ...version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range all {
		m.known[v.identifier] = v
	}
}

func (m *model) unanswered(p pending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending, p)
}

// writer writes patients of its own, one write at a time.
type writer struct {
	*datastore
	model  *model
	name   string
	random *rand.Rand
	own    []version // alive
	made   int
}

// step does one write and reports whether the server acknowledged it.
func (w *writer) step() bool {
	switch draw := w.random.IntN(100); {
	case len(w.own) == 0 || draw < 40:
		return w.create()
	case draw < 70:
		return w.update()
	case draw < 80:
		return w.delete()
	}
	return w.transaction()
}

// fresh is a patient that nobody wrote yet.
func (w *writer) fresh() version {
	w.made++
	name := fmt.Sprintf("%s-%d", w.name, w.made)
	return version{identifier: name, marker: "M" + name + "-1", number: 1}
}

// next is a patient's version after the one given.
func (w *writer) next(v version) version {
	w.made++
	v.number++
	v.marker = fmt.Sprintf("M%s-%d-%d", w.name, w.made, v.number)
	return v
}

func (v version) patient() string {
	id := ""
	if v.id != "" {
		id = `"id":"` + v.id + `",`
	}
	return fmt.Sprintf(`{"resourceType":"Patient",%s"identifier":[{"system":"urn:kill","value":"%s"}],"name":[{"family":"%s"}]}`, id, v.identifier, v.marker)
}

// send sends one write; nil when no answer came, which is what the kill does.
func (w *writer) send(p pending, method, path, body string) *reply {
	r := process.Request{Method: method, URL: w.base() + path, Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"}}
	answer, err := w.Do(w.t.Context(), r)
	if err != nil {
		w.model.unanswered(p)
		return nil
	}
	return &reply{Response: answer, t: w.t, what: method + " " + path}
}

// expect holds an answer's status against the one there must be.
func (w *writer) expect(r *reply, status int) bool {
	if r == nil {
		return false
	}
	if r.Status != status {
		w.t.Errorf("%s: status %d, want %d: %s", r.what, r.Status, status, short(r.Body))
		return false
	}
	return true
}

func (w *writer) create() bool {
	v := w.fresh()
	r := w.send(pending{[]version{{identifier: v.identifier}}, []version{v}}, "POST", "/Patient", v.patient())
	if !w.expect(r, http.StatusCreated) {
		return false
	}
	v.id = r.text("id")
	w.own = append(w.own, v)
	w.model.acknowledged(v)
	return true
}

func (w *writer) update() bool {
	at := w.random.IntN(len(w.own))
	old := w.own[at]
	v := w.next(old)
	r := w.send(pending{[]version{old}, []version{v}}, "PUT", "/Patient/"+v.id, v.patient())
	if !w.expect(r, http.StatusOK) {
		return false
	}
	if tag := r.Header.Get("ETag"); tag != fmt.Sprintf(`W/"%d"`, v.number) {
		w.t.Errorf("the update of version %d answers with %s", old.number, tag)
	}
	w.own[at] = v
	w.model.acknowledged(v)
	return true
}

func (w *writer) delete() bool {
	at := w.random.IntN(len(w.own))
	old := w.own[at]
	v := w.next(old)
	v.deleted = true
	if !w.expect(w.send(pending{[]version{old}, []version{v}}, "DELETE", "/Patient/"+v.id, ""), http.StatusNoContent) {
		return false
	}
	w.own[at] = w.own[len(w.own)-1]
	w.own = w.own[:len(w.own)-1]
	w.model.acknowledged(v)
	return true
}

// transaction makes two patients and changes one of its own, at once.
func (w *writer) transaction() bool {
	at := w.random.IntN(len(w.own))
	old := w.own[at]
	all := []version{w.next(old), w.fresh(), w.fresh()}
	p := pending{before: []version{old, {identifier: all[1].identifier}, {identifier: all[2].identifier}}, after: all}
	entries := []string{`{"resource":` + all[0].patient() + `,"request":{"method":"PUT","url":"Patient/` + old.id + `"}}`}
	for _, v := range all[1:] {
		entries = append(entries, `{"resource":`+v.patient()+`,"request":{"method":"POST","url":"Patient"}}`)
	}
	r := w.send(p, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+strings.Join(entries, ",")+`]}`)
	if !w.expect(r, http.StatusOK) {
		return false
	}
	for i := range all[1:] {
		where, _, _ := strings.Cut(r.text("entry", i+1, "response", "location"), "/_history/")
		all[i+1].id = where[strings.LastIndexByte(where, '/')+1:]
	}
	w.own[at] = all[0]
	w.own = append(w.own, all[1:]...)
	w.model.acknowledged(all...)
	return true
}

// check holds the store against the model, after a crash, and settles what was
// pending as it was found.
func (m *model) check(d *datastore, r *rand.Rand) {
	d.t.Helper()
	there := d.listPatients()
	for _, p := range m.pending {
		m.settle(d, p, there)
	}
	m.pending = nil
	alive := 0
	for identifier, want := range m.known {
		got, found := there[identifier]
		if !want.deleted {
			alive++
		}
		switch {
		case want.deleted && found:
			d.t.Errorf("%s was deleted and is there: %+v", identifier, got)
		case !want.deleted && !found:
			d.t.Errorf("%s was acknowledged and is lost: %+v", identifier, want)
		case found && got != want:
			d.t.Errorf("%s is %+v, acknowledged was %+v", identifier, got, want)
		}
	}
	for identifier, got := range there {
		if _, known := m.known[identifier]; !known {
			d.t.Errorf("nobody wrote %+v", got)
		}
	}
	if n := d.total("Patient"); n != alive || n != len(there) {
		d.t.Errorf("%d patients are counted, %d listed, %d were written", n, len(there), alive)
	}
	m.sample(d, r)
}

// settle finds out whether an unanswered write is there, whole.
func (m *model) settle(d *datastore, p pending, there map[string]version) {
	d.t.Helper()
	done := 0
	for i := range p.after {
		got, found := there[p.after[i].identifier]
		switch {
		case p.after[i].deleted && !found, found && got.number == p.after[i].number && got.marker == p.after[i].marker:
			done++
			p.after[i].id = orDefault(p.after[i].id, got.id)
		case p.before[i].number == 0 && !found:
		case found && got == p.before[i]:
		default:
			d.t.Errorf("an unanswered write left %+v (%v), neither %+v nor %+v", got, found, p.before[i], p.after[i])
		}
	}
	if done != 0 && done != len(p.after) {
		d.t.Errorf("an unanswered transaction is half there: %d of %d: %+v", done, len(p.after), p.after)
	}
	if done == len(p.after) {
		m.acknowledged(p.after...)
	}
}

// listPatients reads all patients of the store by their listing, which must
// give each once.
func (d *datastore) listPatients() map[string]version {
	d.t.Helper()
	there, ids := map[string]version{}, map[string]bool{}
	for _, p := range d.pages("Patient?_count=500") {
		v := readVersion(p)
		if other, twice := there[v.identifier]; twice || ids[v.id] {
			d.t.Errorf("%+v and %+v are the same", v, other)
		}
		there[v.identifier], ids[v.id] = v, true
	}
	return there
}

func readVersion(patient any) version {
	text := func(path ...any) string {
		s, _ := dig(patient, path...).(string)
		return s
	}
	number, _ := strconv.Atoi(text("meta", "versionId")) // 0 is no version, and told as a difference
	return version{identifier: text("identifier", 0, "value"), id: text("id"), number: number, marker: text("name", 0, "family")}
}

// samples is how many patients a check looks at closely.
const samples = 60

// sample reads some patients by other ways than the listing: read, vread,
// history, and the index by their last and by an unknown name.
func (m *model) sample(d *datastore, r *rand.Rand) {
	d.t.Helper()
	all := slices.Sorted(maps.Keys(m.known))
	for range min(samples, len(all)) {
		v := m.known[all[r.IntN(len(all))]]
		read := d.get("/Patient/" + v.id)
		if v.deleted {
			read.want(http.StatusGone)
			continue
		}
		if got := readVersion(read.want(http.StatusOK).at()); got != v {
			d.t.Errorf("read %+v, want %+v", got, v)
		}
		if got := readVersion(d.get(fmt.Sprintf("/Patient/%s/_history/%d", v.id, v.number)).want(200).at()); got != v {
			d.t.Errorf("vread %+v, want %+v", got, v)
		}
		if n := d.get("/Patient/" + v.id + "/_history?_count=1000").want(200).at("total"); n != json.Number(strconv.Itoa(v.number)) {
			d.t.Errorf("%v versions in the history of %+v", n, v)
		}
		for query, want := range map[string]int{"family:exact=" + v.marker: 1, "identifier=urn:kill|" + v.identifier: 1, "family:exact=" + v.marker + "x": 0} {
			if n := d.total("Patient?" + query); n != want {
				d.t.Errorf("%s: %d patients, want %d", query, n, want)
			}
		}
	}
}
