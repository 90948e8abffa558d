package fhir

import (
	"math"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Interval is a stretch of time in milliseconds since 1970-01-01T00:00:00Z:
// from Low up to, and without, High.
type Interval struct{ Low, High int64 }

// MinTime and MaxTime stand for an open beginning and an open end.
const (
	MinTime int64 = math.MinInt64
	MaxTime int64 = math.MaxInt64
)

// Contains reports whether other lies within v.
func (v Interval) Contains(other Interval) bool { return v.Low <= other.Low && other.High <= v.High }

// Overlaps reports whether v and other have a moment in common.
func (v Interval) Overlaps(other Interval) bool { return v.Low < other.High && other.Low < v.High }

// Precision is the smallest part a date names.
type Precision uint8

// The precisions. Any fraction of a second is Millisecond: an Interval cuts the
// digits beyond the third off, and .5 is the moment .500, because clients print
// the same moment with different numbers of digits. A Stretch has the other digits.
const (
	Year Precision = iota + 1
	Month
	Day
	Minute // search values only
	Second
	Millisecond
)

func (p Precision) String() string {
	if p < Year || p > Millisecond {
		return "none"
	}
	return [...]string{"year", "month", "day", "minute", "second", "millisecond"}[p-1]
}

// ParseDate reads a date, dateTime or instant in the grammar of R4
// (datatypes.html, "Primitive Types"): YYYY, YYYY-MM, YYYY-MM-DD, or with
// Thh:mm:ss, an optional fraction and a zone. The result is the stretch that
// the precision leaves open; dates without time count as UTC. Refused are days
// a month does not have, the year 0000, 24:00, and zones beyond 14:00; a leap
// second counts as second 59. The error is Syntax.
func ParseDate(s string) (Interval, Precision, error) { return parseDate(s, false) }

// ParseSearchDate is ParseDate for what R4 also allows in search values
// (search.html, "date"): no seconds, and no zone, which counts as UTC. It also
// takes a space where the sign + of a zone was lost in URL decoding.
func ParseSearchDate(s string) (Interval, Precision, error) { return parseDate(s, true) }

func parseDate(s string, lenient bool) (Interval, Precision, error) {
	r, err := readDate(s, lenient)
	if err != nil {
		return Interval{}, 0, err
	}
	return r.stretch(1).Interval(), r.precision, nil
}

func readDate(s string, lenient bool) (dateReader, error) {
	r := dateReader{rest: s, lenient: lenient}
	if !r.read() || r.rest != "" {
		return r, &fault.Error{
			Kind: fault.Syntax, Op: "fhir.ParseDate", Subject: clip(s), Detail: "not a date or dateTime",
			Hint: "use YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz",
		}
	}
	return r, nil
}

// Moment is a moment with the digits that milliseconds leave out.
type Moment struct {
	Milli  int64  // milliseconds since 1970-01-01T00:00:00Z
	Beyond uint64 // what comes after, in units of 10^-19 milliseconds
}

// beyondDigits are how many digits of a second's fraction Moment.Beyond holds;
// those after the 22nd are cut off.
const (
	milliDigits  = 3
	beyondDigits = 19
	beyondUnits  = 10_000_000_000_000_000_000 // of a millisecond
)

// Before reports whether m comes before o.
func (m Moment) Before(o Moment) bool {
	return m.Milli < o.Milli || m.Milli == o.Milli && m.Beyond < o.Beyond
}

// Next is the moment after m: m to m.Next() is a moment without length.
func (m Moment) Next() Moment { return m.plus(1) }

func (m Moment) plus(beyond uint64) Moment {
	if m.Beyond += beyond; m.Beyond >= beyondUnits {
		return Moment{m.Milli + 1, m.Beyond - beyondUnits}
	}
	return m
}

// Stretch is an Interval with all digits: from Low up to, and without, High.
type Stretch struct{ Low, High Moment }

// Stretch is the interval as one.
func (i Interval) Stretch() Stretch { return Stretch{Moment{Milli: i.Low}, Moment{Milli: i.High}} }

// Interval is the milliseconds that the stretch touches.
func (s Stretch) Interval() Interval {
	v := Interval{s.Low.Milli, s.High.Milli}
	if s.High.Beyond > 0 {
		v.High++
	}
	return v
}

// ParseStretch is ParseSearchDate for what a resource says, with all digits: a
// fraction of a second names a moment, however many digits it is written with.
func ParseStretch(s string) (Stretch, error) {
	r, err := readDate(s, true)
	if err != nil {
		return Stretch{}, err
	}
	return r.stretch(1), nil
}

// ParseSearchStretch is ParseSearchDate for what a search asks, with all digits: a
// fraction stands for the stretch that its last digit leaves open, from the third
// on. It is fine when there are more than three, so that Interval does not say all.
func ParseSearchStretch(s string) (v Stretch, fine bool, err error) {
	r, err := readDate(s, true)
	if err != nil {
		return Stretch{}, false, err
	}
	unit := uint64(beyondUnits)
	for range min(max(r.places, milliDigits)-milliDigits, beyondDigits) {
		unit /= 10
	}
	return r.stretch(unit), r.places > milliDigits, nil
}

// maxQuoted bounds what an error repeats of a wrong value, in bytes.
const maxQuoted = 64

func clip(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "…"
	}
	return s
}

// dateReader takes a date apart from left to right.
type dateReader struct {
	rest      string
	lenient   bool
	precision Precision

	year, month, day     int
	hour, minute, second int
	milli                int
	places               int    // how many digits the fraction has
	beyond               uint64 // its digits behind the third
	offset               int    // minutes east of UTC
}

func (r *dateReader) read() bool {
	r.month, r.day = 1, 1
	if !r.digits(4, 1, 9999, &r.year) {
		return false
	}
	r.precision = Year
	if !r.take('-') {
		return true
	}
	if !r.digits(2, 1, 12, &r.month) {
		return false
	}
	r.precision = Month
	if !r.take('-') {
		return true
	}
	if !r.digits(2, 1, daysIn(r.year, r.month), &r.day) {
		return false
	}
	r.precision = Day
	return !r.take('T') || r.time() && r.zone()
}

func (r *dateReader) time() bool {
	if !r.digits(2, 0, 23, &r.hour) || !r.take(':') || !r.digits(2, 0, 59, &r.minute) {
		return false
	}
	r.precision = Minute
	if !r.take(':') {
		return r.lenient
	}
	if !r.digits(2, 0, 60, &r.second) {
		return false
	}
	r.second = min(r.second, 59) // a leap second
	r.precision = Second
	return !r.take('.') || r.fraction()
}

func (r *dateReader) fraction() bool {
	n := 0
	for n < len(r.rest) && isDigit(r.rest[n]) {
		switch digit := r.rest[n] - '0'; {
		case n < milliDigits:
			r.milli = r.milli*10 + int(digit)
		case n < milliDigits+beyondDigits:
			r.beyond = r.beyond*10 + uint64(digit)
		}
		n++
	}
	for k := n; k < milliDigits; k++ {
		r.milli *= 10
	}
	for k := max(n, milliDigits); k < milliDigits+beyondDigits && r.beyond > 0; k++ {
		r.beyond *= 10
	}
	r.places = n
	r.rest = r.rest[n:]
	r.precision = Millisecond
	return n > 0
}

func (r *dateReader) zone() bool {
	sign := 1
	switch {
	case r.take('Z'):
		return true
	case r.take('-'):
		sign = -1
	case r.take('+'), r.lenient && r.take(' '):
	default:
		return r.lenient
	}
	var hours, minutes int
	if !r.digits(2, 0, 14, &hours) || !r.take(':') || !r.digits(2, 0, 59, &minutes) {
		return false
	}
	r.offset = sign * (hours*60 + minutes)
	return hours < 14 || minutes == 0
}

func (r *dateReader) take(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// digits reads exactly n digits as a number from low to high.
func (r *dateReader) digits(n, low, high int, into *int) bool {
	if len(r.rest) < n {
		return false
	}
	v := 0
	for i := range n {
		if !isDigit(r.rest[i]) {
			return false
		}
		v = v*10 + int(r.rest[i]-'0')
	}
	r.rest = r.rest[n:]
	*into = v
	return low <= v && v <= high
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func daysIn(year, month int) int { return int(daysTo(year, month+1) - daysTo(year, month)) }

// Lengths of time in milliseconds.
const (
	milliSecond = 1000
	milliMinute = 60 * milliSecond
	milliDay    = 24 * 60 * milliMinute
)

// daysTo is the days from 1970-01-01 to the first of a month, in the Gregorian
// calendar carried back; month 13 is the January that follows. Years are
// counted from March, so that the leap day ends them.
func daysTo(year, month int) int64 {
	months := year*12 + month - 3 // since March of the year 0
	y, m := months/12, months%12
	const from0 = 719468 // days from 0000-03-01 to 1970-01-01
	return int64(y*365+y/4-y/100+y/400+(m*153+2)/5) - from0
}

// stretch is what the precision leaves open; of a fraction it is so many units of
// Moment.Beyond long.
func (r *dateReader) stretch(unit uint64) Stretch {
	v := r.interval()
	s := Stretch{Moment{v.Low, r.beyond}, Moment{v.High, 0}}
	if r.precision == Millisecond {
		s.High = s.Low.plus(unit)
	}
	return s
}

func (r *dateReader) interval() Interval {
	low := (daysTo(r.year, r.month)+int64(r.day-1))*milliDay +
		int64((r.hour*60+r.minute-r.offset)*milliMinute+r.second*milliSecond+r.milli)
	switch r.precision {
	case Year:
		return Interval{low, daysTo(r.year+1, 1) * milliDay}
	case Month:
		return Interval{low, daysTo(r.year, r.month+1) * milliDay}
	case Day:
		return Interval{low, low + milliDay}
	case Minute:
		return Interval{low, low + milliMinute}
	case Second:
		return Interval{low, low + milliSecond}
	}
	return Interval{low, low + 1}
}

// PeriodInterval is the stretch of a Period element: from the beginning of
// start to the end of end; the one that is missing is open. Dates are read as
// ParseSearchDate does, so that stored data without zones is found. It is false
// when neither is there, one is no date, or the Period ends before it starts.
func PeriodInterval(n Node) (Interval, bool) {
	s, ok := PeriodStretch(n)
	return s.Interval(), ok
}

// PeriodStretch is PeriodInterval with all digits.
func PeriodStretch(n Node) (Stretch, bool) {
	start, end := n.GetName(nameStart), n.GetName(nameEnd)
	v := Stretch{Moment{Milli: MinTime}, Moment{Milli: MaxTime}}
	if start.Kind() != String && end.Kind() != String {
		return Stretch{}, false
	}
	if start.Exists() {
		from, err := ParseStretch(start.Text())
		if err != nil {
			return Stretch{}, false
		}
		v.Low = from.Low
	}
	if end.Exists() {
		to, err := ParseStretch(end.Text())
		if err != nil {
			return Stretch{}, false
		}
		v.High = to.High
	}
	i := v.Interval()
	return v, i.Low < i.High
}
