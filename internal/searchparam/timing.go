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
func (w *worker) interval(as element, n fhir.Node) (fhir.Interval, bool) {
	switch as {
	case elementDate:
		return w.date(n)
	case elementPeriod:
		i, ok := fhir.PeriodInterval(n)
		if !ok && n.Len() > 0 {
			w.warn(n, "is not a period with an order")
		}
		return i, ok
	case elementTiming:
		return w.timing(n)
	}
	return fhir.Interval{}, false
}

func (w *worker) date(n fhir.Node) (fhir.Interval, bool) {
	i, _, err := fhir.ParseSearchDate(n.View())
	if err != nil && n.Kind() == fhir.String {
		w.warn(n, "is not a date")
	}
	return i, err == nil
}

// timing is a Timing's outer limits: "the specified scheduling details are
// ignored and only the outer limits matter" (R4 3.1.1.4.7).
func (w *worker) timing(n fhir.Node) (fhir.Interval, bool) {
	outer, found := fhir.PeriodInterval(n.GetName(nameRepeat).GetName(nameBoundsPeriod))
	for event := n.GetName(nameEvent).FirstItem(); event.Exists(); event = event.NextItem() {
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
