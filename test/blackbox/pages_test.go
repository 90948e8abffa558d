package blackbox

import (
	"fmt"
	"strings"
	"testing"
)

// ids are those of a searchset's matches.
func (r *reply) ids() string {
	var ids []string
	entries, _ := r.at("entry").([]any)
	for _, e := range entries {
		ids = append(ids, fmt.Sprint(dig(e, "resource", "id")))
	}
	return strings.Join(ids, " ")
}

// tarn explain prints how a search is carried out, and no value of it.
func TestExplainCommand(t *testing.T) {
	t.Parallel()
	s := start(t, "--slow-search", "1ns")
	d := s.store(nil)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","name":[{"family":"Secretname"}],"gender":"male"}`).want(201)
	out := s.program(tarn(t), "explain", d.id, "Patient?family=Secretname&gender=male", "--endpoint", s.url(), "--data", s.Data)
	for _, want := range []string{"understood Patient?family&gender\n", "Patient: estimated at most 1, true 1\n", ", leads\n", "\ntrue 1, rows looked at "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if _, errOut, status := s.attempt(tarn(t), "explain", d.id, "Patient?famly=x", "--endpoint", s.url(), "--data", s.Data); status != 1 || !strings.Contains(errOut, "Did you mean family") {
		t.Errorf("exit status %d, %s", status, errOut)
	}
	s.must(s.Stop())
	if log := s.Log(); !strings.Contains(log, "Patient?family&gender") || !strings.Contains(log, "slow search") || strings.Contains(log+out, "Secretname") {
		t.Errorf("the log of slow searches is\n%s", tail(log, 20))
	}
}

// A page link goes on with its own moment over writes and a restart, in both
// directions and under another _count; it is of one data store, carries no
// rights, and an erased resource is on none of its pages.
func TestPageLinksOverARestart(t *testing.T) {
	t.Parallel()
	s := start(t)
	d, other := s.store(nil), s.store(nil)
	for i := range 9 {
		d.fhir("PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","active":true,"name":[{"family":"Secret%d"}]}`, i, i)).want(201)
	}
	first := d.get("/Patient?active=true&family=Secret&_sort=family&_count=3").want(200)
	next := strings.TrimPrefix(first.link("next"), d.base())
	if first.ids() != "p0 p1 p2" || strings.Contains(next, "Secret") || strings.Contains(next, "active") {
		t.Fatalf("the first page is %s, its link %s", first.ids(), next)
	}
	for i := range 9 { // nothing of it belongs to the moment of the pages
		d.fhir("PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","active":false}`, i)).want(200)
	}
	d.fhir("PUT", "/Patient/p35", `{"resourceType":"Patient","id":"p35","active":true,"name":[{"family":"Secret35"}]}`).want(201)
	s.must(s.Stop())
	s.restart()
	second := d.get(next).want(200)
	if second.ids() != "p3 p4 p5" || fmt.Sprint(second.at("total")) != "9" || strings.Contains(string(second.Body), `"active":false`) {
		t.Errorf("the second page is %s of %v after a restart", second.ids(), second.at("total"))
	}
	if back := d.get(strings.TrimPrefix(second.link("previous"), d.base())).want(200); back.ids() != "p0 p1 p2" {
		t.Errorf("the page before is %s", back.ids())
	}
	if larger := d.get(strings.Replace(next, "_count=3", "_count=5", 1)).want(200); larger.ids() != "p3 p4 p5 p6 p7" {
		t.Errorf("with another _count the page is %s", larger.ids())
	}
	if encoded := d.get(strings.NewReplacer("-", "%2D", "_c", "%5Fc").Replace(next)).want(200); encoded.ids() != "p3 p4 p5" {
		t.Errorf("encoded again the page is %s", encoded.ids())
	}
	other.get(next).want(400)
	d.get(next[:len(next)-4] + "AAAA").want(400)
	d.keyOf(s.iamTool("user", "create", "nobody")).get(next).want(403)
	erasing := d.fhir("POST", "/Patient/p4/$erase", nil).want(202)
	d.settle(d.poll(erasing), func(r *reply) bool { return r.want(200).text("status") == "COMPLETED" })
	if left := d.get(next).want(200); left.ids() != "p3 p5 p6" {
		t.Errorf("after p4 was erased the page is %s", left.ids())
	}
}
