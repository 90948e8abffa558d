package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// operation is one kind of request.
type operation struct {
	name    string
	clients []int // how many send it at once, a line of the table each
	status  int
	request func(w *world, r *rand.Rand) process.Request // its URL begins behind the base
}

// The numbers of clients that issues and documents speak of.
var (
	ofWrites   = []int{1, 8, 64}
	ofReads    = []int{1, 16, 64}
	ofSearches = []int{1, 8}
)

// operations are the kinds that are measured, each on the Synthea patients. The
// searches ask for pages of 20 with their total, which is there unless _total
// says otherwise.
var operations = []operation{
	{"create", ofWrites, http.StatusCreated, func(_ *world, r *rand.Rand) process.Request {
		return process.Request{Method: http.MethodPost, URL: "/Observation", Body: observation(r),
			Header: map[string]string{"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}}
	}},
	{"read", ofReads, http.StatusOK, func(w *world, r *rand.Rand) process.Request {
		return get("/Patient/" + pick(w.patients, r))
	}},
	{"one token, page of 50", ofReads, http.StatusOK, func(_ *world, r *rand.Rand) process.Request {
		return get("/Observation?code=" + pick(vitalSigns, r) + "&_count=50")
	}},
	{"one token", ofSearches, http.StatusOK, func(_ *world, r *rand.Rand) process.Request {
		return get("/Observation?code=" + pick(vitalSigns, r) + "&_count=20")
	}},
	{"token and patient", ofSearches, http.StatusOK, func(w *world, r *rand.Rand) process.Request {
		return get("/Observation?code=" + pick(vitalSigns, r) + "&patient=" + pick(w.patients, r) + "&_count=20")
	}},
	{"token, date and quantity", ofSearches, http.StatusOK, func(_ *world, r *rand.Rand) process.Request {
		return get(fmt.Sprintf("/Observation?code=%s&date=ge%d&value-quantity=gt%d&_count=20", bodyWeight, 2005+r.IntN(15), 50+r.IntN(30)))
	}},
	{"name prefix", ofSearches, http.StatusOK, func(w *world, r *rand.Rand) process.Request {
		return get("/Patient?name=" + pick(w.families, r)[:2] + "&_count=20")
	}},
	{"chain over one reference", ofSearches, http.StatusOK, func(w *world, r *rand.Rand) process.Request {
		return get("/Observation?patient.family:exact=" + pick(w.families, r) + "&_count=20")
	}},
	{"_has", ofSearches, http.StatusOK, func(_ *world, r *rand.Rand) process.Request {
		return get("/Patient?_has:Observation:patient:code=" + pick(vitalSigns, r) + "&_count=20")
	}},
	{"token, sorted by date", ofSearches, http.StatusOK, func(_ *world, r *rand.Rand) process.Request {
		return get("/Observation?code=" + pick(vitalSigns, r) + "&_sort=-date&_count=20")
	}},
	{"accurate total", ofSearches, http.StatusOK, func(_ *world, _ *rand.Rand) process.Request {
		return get("/Observation?status=final&_total=accurate&_count=20")
	}},
	{"chain with include, page of 10", ofSearches, http.StatusOK, func(w *world, r *rand.Rand) process.Request {
		return get("/Encounter?subject:Patient.family:exact=" + pick(w.families, r) + "&_include=Encounter:subject&_count=10")
	}},
}

func get(path string) process.Request { return process.Request{Method: http.MethodGet, URL: path} }

func pick(list []string, r *rand.Rand) string { return list[r.IntN(len(list))] }

// loinc is a token of LOINC, with its | escaped: not every server takes it raw.
const loinc = "http://loinc.org%7C"

// bodyWeight is what the search by quantity asks for, in kg.
const bodyWeight = loinc + "29463-7"

// vitalSigns are codes that nearly every patient of the Synthea set has many
// observations of: heart rate, respiratory rate, body height and weight.
var vitalSigns = []string{loinc + "8867-4", loinc + "9279-1", loinc + "8302-2", bodyWeight}

// observation is a heart rate of about the size that devices send.
func observation(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],`+
		`"code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":{"reference":"Patient/p%d"},`+
		`"effectiveDateTime":"2026-%02d-%02dT08:00:00Z","valueQuantity":{"value":%d,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`,
		r.IntN(1000), 1+r.IntN(12), 1+r.IntN(28), 50+r.IntN(90))
}

// world is what requests ask for.
type world struct {
	patients []string // ids
	families []string // of their names, of two letters at least
}

// learn finds patients to ask for.
func (t *target) learn(ctx context.Context) (*world, error) {
	answer, err := t.ask(ctx, get("/Patient?_count=100"))
	if err != nil {
		return nil, err
	}
	var bundle struct {
		Entry []struct {
			Resource struct {
				ID   string
				Name []struct{ Family string }
			}
		}
	}
	if err := json.Unmarshal(answer.Body, &bundle); err != nil {
		return nil, fmt.Errorf("no patients to ask for: status %d, %w", answer.Status, err)
	}
	w := &world{}
	for _, e := range bundle.Entry {
		w.patients = append(w.patients, e.Resource.ID)
		if names := e.Resource.Name; len(names) > 0 && len(names[0].Family) > 1 {
			w.families = append(w.families, names[0].Family)
		}
	}
	if len(w.families) == 0 {
		return nil, fmt.Errorf("no patients to ask for: status %d", answer.Status)
	}
	return w, nil
}
