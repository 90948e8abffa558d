package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/synthea"
)

// source is a set of three resources.
type source struct{}

func (source) Parts(context.Context) ([]synthea.Part, error) {
	const lines = `{"resourceType":"Patient","id":"a"}` + "\n" + `{"resourceType":"Patient","id":"b"}` + "\n" + `{"resourceType":"Observation","id":"c"}` + "\n"
	return []synthea.Part{{Name: "one", Resources: 3, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(lines)), nil }}}, nil
}

// Another server is filled by PUT, with the headers that were asked for, and a
// refused entry ends the run.
func TestFill(t *testing.T) {
	status := "201 Created"
	var put []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var bundle struct {
			Entry []struct{ Request struct{ Method, URL string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&bundle); err != nil || r.Header.Get("Authorization") != "Basic abc" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var answers []string
		for _, e := range bundle.Entry {
			put = append(put, e.Request.Method+" "+e.Request.URL)
			answers = append(answers, `{"response":{"status":"`+status+`"}}`)
		}
		_, _ = io.WriteString(w, `{"entry":[`+strings.Join(answers, ",")+`]}`)
	}))
	defer server.Close()
	var h headers
	if err := h.Set("Authorization: Basic abc"); err != nil {
		t.Fatal(err)
	}
	if h.Set("nonsense") == nil {
		t.Error("a header without a value was taken")
	}
	other := &target{name: "other", base: server.URL, sign: h.unsigned, client: server.Client()}
	if err := other.fill(t.Context(), source{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(put, ", "); got != "PUT Patient/a, PUT Patient/b, PUT Observation/c" {
		t.Errorf("written: %s", got)
	}
	status = "422 Unprocessable Entity"
	if err := other.fill(t.Context(), source{}, io.Discard); err == nil || !strings.Contains(err.Error(), "422") {
		t.Errorf("a refused entry: %v", err)
	}
}
