package search

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/search/ucum"
)

// UCUM is the system of units whose amounts are compared across units (R4
// 3.1.1.4.11: 5.4 g finds 5400 mg).
const UCUM = "http://unitsofmeasure.org"

// measure is a unit as entries hold it: nil when it cannot be compared across
// units.
type measure struct {
	unit *ucum.Unit
	hash plan.Hash // of the dimension
}

// measureOf reads a unit of a system.
func measureOf(key plan.HashKey, system, code string) (measure, bool) {
	if system != UCUM {
		return measure{}, false
	}
	u, ok := ucum.Parse(code)
	if !ok {
		return measure{}, false
	}
	if _, ok := u.Base(1); !ok {
		return measure{}, false
	}
	return measure{u, key.Sum(domainCanonical, u.Dimension())}, true
}

// base brings a number into the base units.
func (m measure) base(x float64) float64 {
	b, _ := m.unit.Base(x)
	return b
}

// bring brings an amount into the base units.
func (m measure) bring(a Amount) Amount { return Amount{Low: m.base(a.Low), High: m.base(a.High)} }

// ask brings what is asked for into the base units. It is false for a value that
// is stated to more digits than base units keep: rounding would decide whether
// another equals it, so that it is asked in its own unit only.
func (m measure) ask(v NumberValue) (NumberValue, bool) {
	v.Value, v.Low, v.High = m.base(v.Value), m.base(v.Low), m.base(v.High)
	v.ApproxLow, v.ApproxHigh = m.base(v.ApproxLow), m.base(v.ApproxHigh)
	return v, v.Low < v.Value && v.Value < v.High
}

// inBase is a quantity that is asked for in base units, with what its dimension
// hashes to; false when it is asked in its own unit only.
func (q QuantityValue) inBase(key plan.HashKey) (NumberValue, plan.Hash, bool) {
	m, ok := measureOf(key, q.System, q.Code)
	if !ok {
		return NumberValue{}, plan.Hash{}, false
	}
	v, ok := m.ask(q.NumberValue)
	return v, m.hash, ok
}

// knownMeasure is a unit and what was found out about it.
type knownMeasure struct {
	code string
	measure
	ok bool
}

// knownMeasures is how many units are remembered.
const knownMeasures = 64

// measure is measureOf an amount's unit, remembered.
func (e *Entries) measure(a Amount) (measure, bool) {
	if a.System != UCUM || a.Code == "" || len(a.Code) > knownSystemBytes {
		return measure{}, false
	}
	n := len(a.Code)
	known := &e.measures[(n*7+int(a.Code[n-1])+int(a.Code[n/2])*3)%knownMeasures]
	if known.code != a.Code {
		*known = knownMeasure{code: strings.Clone(a.Code)}
		known.measure, known.ok = measureOf(e.key, a.System, a.Code)
	}
	return known.measure, known.ok
}
