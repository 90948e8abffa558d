package searchparam

import (
	"github.com/tarn-fhir/tarn/internal/fhir"
)

var (
	nameEvent        = fhir.Intern("event")
	nameRepeat       = fhir.Intern("repeat")
	nameBoundsPeriod = fhir.Intern("boundsPeriod")
)

// interval is the time that a value covers (R4 3.1.1.4.7).
func (w *worker) interval(v value) (fhir.Interval, bool) {
	switch v.typ {
	case "date", "dateTime", "instant":
		return w.date(v.node)
	case "Period":
		i, ok := fhir.PeriodInterval(v.node)
		if !ok && v.node.Len() > 0 {
			w.warn(v.node, "is not a period with an order")
		}
		return i, ok
	case "Timing":
		return w.timing(v.node)
	}
	return fhir.Interval{}, false
}

func (w *worker) date(n fhir.Node) (fhir.Interval, bool) {
	i, _, err := fhir.ParseSearchDate(n.Text())
	if err != nil && n.Kind() == fhir.String {
		w.warn(n, "is not a date")
	}
	return i, err == nil
}

// timing is a Timing's outer limits: "the specified scheduling details are
// ignored and only the outer limits matter" (R4 3.1.1.4.7).
func (w *worker) timing(n fhir.Node) (fhir.Interval, bool) {
	outer, found := fhir.PeriodInterval(n.GetName(nameRepeat).GetName(nameBoundsPeriod))
	for event := range n.GetName(nameEvent).Items() {
		i, ok := w.date(event)
		if !ok {
			continue
		}
		if !found {
			outer, found = i, true
		}
		outer.Low, outer.High = min(outer.Low, i.Low), max(outer.High, i.High)
	}
	return outer, found
}
