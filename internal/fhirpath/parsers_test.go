package fhirpath

import (
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// FuzzMoment: what is read prints as it was written (but for zones of zero and
// leap seconds), and every date that package fhir accepts is read, to the same
// stretch of time.
func FuzzMoment(f *testing.F) {
	for _, s := range []string{
		"2015", "2015-02", "2015-02-04", "2015-02-04T14", "2015-02-04T14:34", "2015-02-04T14:34:28", "2015-02-04T14:34:28.123",
		"2015-02-04T14:34:28Z", "2015-02-04T14:34:28+10:00", "2016-12-31T23:59:60Z", "14:30:28.9", "2015T", "2015-02-30",
		"2015-02-04T14:34:28.1234567891Z", "0000", "2015-", "2015-02-04T", "24:00", "2015-02-04T14:34:28-00:00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range []systemKind{kindDate, kindDateTime, kindTime} {
			m, ok := parseMoment(kind, s)
			if !ok {
				continue
			}
			again, ok := parseMoment(kind, m.String())
			if !ok || compareMoments(m, again) != same || m.precision != again.precision {
				t.Errorf("%q as a %s prints as %q", s, kind, m)
			}
		}
		want, _, err := fhir.ParseDate(s)
		if err != nil {
			return
		}
		m, ok := parseMoment(kindDateTime, s)
		if !ok || m.interval() != want {
			t.Errorf("%q: read %v, want %v", s, ok, want)
		}
	})
}

// FuzzUnit: no text brings the reader of units down, and what it knows has a
// base that does not depend on the value.
func FuzzUnit(f *testing.F) {
	for _, s := range []string{
		"kg", "mm[Hg]", "10*3/uL", "g/(8.h){body}", "/min", "m.s-2", "{score}", "1", "[in_i]3", "(((m)))", "dag", "cd", "%",
		"m-99", "10*400", "[lb_av]/[", "m//s", ".m", "mol/kg.h", "k[iU]/L", "0", "u[IU]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, base, ok := commonUnits{}.Canonical(apd.New(1, 0), s)
		if !ok {
			return
		}
		ten, other, ok := commonUnits{}.Canonical(apd.New(10, 0), s)
		if !ok {
			return // out of bounds
		}
		ratio, c := new(apd.Decimal), apd.Condition(0)
		if c, _ = arithmetic.Quo(ratio, ten, one); c.DivisionByZero() || base != other {
			t.Fatalf("%q: %s %s and %s %s", s, one, base, ten, other)
		}
		if roundTo(ratio, 20).Cmp(apd.New(10, 0)) != 0 {
			t.Errorf("%q: ten times as much is %s times as much", s, ratio)
		}
	})
}

// FuzzQuantity: what toQuantity reads prints as something it reads alike.
func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"1", "1 day", "4 days", "1.50 'mg'", "1'mg'", " 2 weeks ", "1 wk", "-3 'kg'", "1 ''", "1 'a b'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, ok := parseQuantity(s)
		if !ok || strings.ContainsAny(q.Unit, "'\\\n\r\t\f") {
			return
		}
		again, ok := parseQuantity(q.String())
		if !ok || again.Unit != q.Unit || again.Calendar != q.Calendar || again.Value.Cmp(q.Value) != 0 {
			t.Errorf("%q prints as %q", s, q)
		}
	})
}

// FuzzNarrative: no text brings htmlChecks down, and nothing with a script in
// its markup passes.
func FuzzNarrative(f *testing.F) {
	f.Add(`<div xmlns="http://www.w3.org/1999/xhtml"><p>a</p></div>`)
	f.Add(`<div xmlns="http://www.w3.org/1999/xhtml"><script>a</script></div>`)
	f.Add(`<div><a href="&#106;avascript:x">a</a>&nbsp;</div>`)
	f.Fuzz(func(t *testing.T, s string) {
		if narrativeAllowed(s) && strings.Contains(s, "<script") && !strings.Contains(s, "<!--") && !strings.Contains(s, "<![CDATA[") {
			t.Errorf("%q passes", s)
		}
	})
}
