package searchparam

import (
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

var (
	nameEvent        = fhir.Intern("event")
	nameRepeat       = fhir.Intern("repeat")
	nameBoundsPeriod = fhir.Intern("boundsPeriod")
)

// stretch is the time that a value covers (R4 3.1.1.4.7), with all digits.
func (w *worker) stretch(as element, n fhir.Node) (fhir.Stretch, bool) {
	switch as {
	case elementDate:
		return w.date(n)
	case elementInstant:
		return w.instant(n)
	case elementPeriod:
		s, ok := fhir.PeriodStretch(n)
		if !ok && n.Len() > 0 {
			w.warn(n, "is not a period with an order")
		}
		return s, ok
	case elementTiming:
		return w.timing(n)
	}
	return fhir.Stretch{}, false
}

func (w *worker) date(n fhir.Node) (fhir.Stretch, bool) {
	s, err := fhir.ParseStretch(n.View())
	if err != nil && n.Kind() == fhir.String {
		w.warn(n, "is not a date")
	}
	return s, err == nil
}

// instant is "always a fixed point" (R4 3.1.1.4.7), though it may be written in
// seconds.
func (w *worker) instant(n fhir.Node) (fhir.Stretch, bool) {
	s, ok := w.date(n)
	if s.High.Milli-s.Low.Milli <= time.Second.Milliseconds() { // what is longer is no instant
		s.High = s.Low.Next()
	}
	return s, ok
}

// timing is a Timing's outer limits: "the specified scheduling details are
// ignored and only the outer limits matter" (R4 3.1.1.4.7).
func (w *worker) timing(n fhir.Node) (fhir.Stretch, bool) {
	outer, found := fhir.PeriodStretch(n.GetName(nameRepeat).GetName(nameBoundsPeriod))
	for event := n.GetName(nameEvent).FirstItem(); event.Exists(); event = event.NextItem() {
		s, ok := w.date(event)
		switch {
		case !ok:
			continue
		case !found:
			outer, found = s, true
		}
		if s.Low.Before(outer.Low) {
			outer.Low = s.Low
		}
		if outer.High.Before(s.High) {
			outer.High = s.High
		}
	}
	return outer, found
}
