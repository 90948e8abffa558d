package fhirpath

import (
	"fmt"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// precision is how far a date or time is given, as the number of digits its
// parts have, which is what precision() answers. A Time counts from the hour
// (2, 4, 6, 9) when asked; inside, both count the same way.
type precision int

const (
	precisionYear   precision = 4
	precisionMonth  precision = 6
	precisionDay    precision = 8
	precisionHour   precision = 10
	precisionMinute precision = 12
	precisionSecond precision = 14
	precisionMilli  precision = 17
)

// moment is a Date, DateTime or Time with the parts that are given. Parts
// behind the precision are those of the first instant: month and day 1, else 0.
// A Time has the date 0001-01-01.
type moment struct {
	kind      systemKind
	precision precision
	wall      time.Time // the parts as written, in UTC
	zoned     bool
	offset    int // minutes east of UTC, when zoned
	fraction  int // digits of the fraction as written, at precisionMilli
}

// maxFraction is the number of digits of a fraction that are kept.
const maxFraction = 9

// parseMoment reads the text of a date, dateTime or time as FHIR and FHIRPath
// write it, without @ and T in front of a time. Time parts may end at any
// place, as FHIRPath allows.
func parseMoment(kind systemKind, text string) (*moment, bool) {
	r := momentReader{rest: text, m: moment{kind: kind}, year: 1, month: 1, day: 1}
	ok := false
	switch kind {
	case kindDate:
		ok = r.date()
	case kindDateTime:
		ok = r.date() && (!r.take("T") || r.rest == "" || r.m.precision == precisionDay && r.clock() && r.zone())
	case kindTime:
		ok = r.clock()
	}
	if !ok || r.rest != "" {
		return nil, false
	}
	return r.finish()
}

// parseTimeLiteral reads what stands behind @ in an expression.
func parseTimeLiteral(text string) (Value, bool) {
	kind := kindDate
	if rest, ok := strings.CutPrefix(text, "T"); ok {
		kind, text = kindTime, rest
	} else if strings.Contains(text, "T") {
		kind = kindDateTime
	}
	m, ok := parseMoment(kind, text)
	return Value{kind: kind, ref: m}, ok
}

type momentReader struct {
	rest                             string
	m                                moment
	year, month, day                 int
	hour, minute, second, nanosecond int
}

func (r *momentReader) take(s string) bool {
	rest, ok := strings.CutPrefix(r.rest, s)
	r.rest = rest
	return ok
}

func (r *momentReader) digits(n, low, high int, into *int) bool {
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

func (r *momentReader) date() bool {
	r.m.precision = precisionYear
	if !r.digits(4, 1, 9999, &r.year) {
		return false
	}
	if !r.take("-") {
		return true
	}
	r.m.precision = precisionMonth
	if !r.digits(2, 1, 12, &r.month) {
		return false
	}
	if !r.take("-") {
		return true
	}
	r.m.precision = precisionDay
	return r.digits(2, 1, 31, &r.day)
}

func (r *momentReader) clock() bool {
	r.m.precision = precisionHour
	if !r.digits(2, 0, 23, &r.hour) {
		return false
	}
	if !r.take(":") {
		return true
	}
	r.m.precision = precisionMinute
	if !r.digits(2, 0, 59, &r.minute) {
		return false
	}
	if !r.take(":") {
		return true
	}
	r.m.precision = precisionSecond
	if !r.digits(2, 0, 60, &r.second) {
		return false
	}
	r.second = min(r.second, 59) // a leap second
	return !r.take(".") || r.parts()
}

// parts reads the fraction of a second.
func (r *momentReader) parts() bool {
	r.m.precision = precisionMilli
	n := 0
	for ; n < len(r.rest) && isDigit(r.rest[n]); n++ {
		if n < maxFraction {
			r.nanosecond = r.nanosecond*10 + int(r.rest[n]-'0')
		}
	}
	for k := n; k < maxFraction; k++ {
		r.nanosecond *= 10
	}
	r.rest = r.rest[n:]
	r.m.fraction = min(n, maxFraction)
	return n > 0
}

func (r *momentReader) zone() bool {
	if r.rest == "" {
		return true
	}
	r.m.zoned = true
	if r.take("Z") {
		return true
	}
	sign := 1
	if r.take("-") {
		sign = -1
	} else if !r.take("+") {
		return false
	}
	var hours, minutes int
	if !r.digits(2, 0, 14, &hours) || !r.take(":") || !r.digits(2, 0, 59, &minutes) {
		return false
	}
	r.m.offset = sign * (hours*60 + minutes)
	return hours < 14 || minutes == 0
}

func (r *momentReader) finish() (*moment, bool) {
	m := r.m
	m.wall = time.Date(r.year, time.Month(r.month), r.day, r.hour, r.minute, r.second, r.nanosecond, time.UTC)
	// A day the month does not have would have moved on.
	return &m, m.wall.Day() == r.day
}

// momentOf is the moment of a clock's time, in its zone, to the millisecond.
func momentOf(kind systemKind, now time.Time) *moment {
	_, seconds := now.Zone()
	wall := time.Date(now.Year(), now.Month(), now.Day(), now.Hour(), now.Minute(), now.Second(),
		now.Nanosecond(), time.UTC).Truncate(time.Millisecond)
	m := &moment{kind: kind, precision: precisionMilli, wall: wall, fraction: 3}
	switch kind {
	case kindDate:
		m.precision, m.fraction = precisionDay, 0
		m.wall = wall.Truncate(24 * time.Hour)
	case kindDateTime:
		m.zoned, m.offset = true, seconds/60
	case kindTime:
		m.wall = onFirstDay(wall)
	}
	return m
}

// onFirstDay keeps the time of day alone.
func onFirstDay(t time.Time) time.Time {
	return time.Date(1, 1, 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// String writes the moment as FHIR does, with the parts that are given.
func (m *moment) String() string {
	var b strings.Builder
	if m.kind != kindTime {
		m.writeDate(&b)
		if m.precision <= precisionDay {
			return b.String()
		}
		b.WriteByte('T')
	}
	m.writeClock(&b)
	m.writeZone(&b)
	return b.String()
}

func (m *moment) writeDate(b *strings.Builder) {
	fmt.Fprintf(b, "%04d", m.wall.Year())
	if m.precision >= precisionMonth {
		fmt.Fprintf(b, "-%02d", int(m.wall.Month()))
	}
	if m.precision >= precisionDay {
		fmt.Fprintf(b, "-%02d", m.wall.Day())
	}
}

func (m *moment) writeClock(b *strings.Builder) {
	fmt.Fprintf(b, "%02d", m.wall.Hour())
	if m.precision >= precisionMinute {
		fmt.Fprintf(b, ":%02d", m.wall.Minute())
	}
	if m.precision >= precisionSecond {
		fmt.Fprintf(b, ":%02d", m.wall.Second())
	}
	if m.precision >= precisionMilli {
		b.WriteByte('.')
		b.WriteString(fmt.Sprintf("%09d", m.wall.Nanosecond())[:m.fraction])
	}
}

func (m *moment) writeZone(b *strings.Builder) {
	switch off := m.offset; {
	case !m.zoned:
	case off == 0:
		b.WriteByte('Z')
	case off < 0:
		fmt.Fprintf(b, "-%02d:%02d", -off/60, -off%60)
	default:
		fmt.Fprintf(b, "+%02d:%02d", off/60, off%60)
	}
}

// instant is the moment in UTC; without a zone it is taken as UTC.
func (m *moment) instant() time.Time { return m.wall.Add(-time.Duration(m.offset) * time.Minute) }

// end is the first instant behind the stretch that the precision leaves open.
func (m *moment) end() time.Time { return m.step(m.instant(), 1) }

// step adds n times the unit of the precision.
func (m *moment) step(t time.Time, n int) time.Time {
	switch m.precision {
	case precisionYear:
		return t.AddDate(n, 0, 0)
	case precisionMonth:
		return t.AddDate(0, n, 0)
	case precisionDay:
		return t.AddDate(0, 0, n)
	case precisionHour:
		return t.Add(time.Duration(n) * time.Hour)
	case precisionMinute:
		return t.Add(time.Duration(n) * time.Minute)
	case precisionSecond:
		return t.Add(time.Duration(n) * time.Second)
	}
	return t.Add(time.Duration(n) * time.Millisecond)
}

func (m *moment) interval() fhir.Interval {
	low := m.instant().Truncate(time.Millisecond)
	return fhir.Interval{Low: low.UnixMilli(), High: m.step(low, 1).UnixMilli()}
}

// The zones of the world reach from 12 hours west to 14 hours east.
const (
	westernmost = 12 * time.Hour
	easternmost = 14 * time.Hour
)

// order is the result of a comparison that may have no answer.
type order int

const (
	less order = iota - 1
	same
	more
	unknown // the precisions or zones leave it open
)

// compareMoments orders two moments part by part (N1 section 6.2): as long as
// the parts are equal it goes on, and has no answer where one of the two ends.
// Seconds and their fraction are one part.
func compareMoments(a, b *moment) order {
	if a.zoned != b.zoned && a.kind != kindTime {
		return compareAcrossZones(a, b)
	}
	x, y := a.wall, b.wall
	if a.zoned {
		x, y = a.instant(), b.instant()
	}
	common := min(a.precision, b.precision)
	if o := compareTimes(cutTo(x, common), cutTo(y, common)); o != same {
		return o
	}
	if a.precision != b.precision && common < precisionSecond {
		return unknown
	}
	return compareTimes(x, y)
}

// compareAcrossZones orders moments of which one has no zone: there is an
// answer only when every zone gives the same.
func compareAcrossZones(a, b *moment) order {
	aLow, aHigh := a.widest()
	bLow, bHigh := b.widest()
	switch {
	case !aHigh.After(bLow):
		return less
	case !bHigh.After(aLow):
		return more
	}
	return unknown
}

// widest is the stretch in which the moment may be, in any zone if it has none.
func (m *moment) widest() (low, high time.Time) {
	low, high = m.instant(), m.end()
	if !m.zoned {
		low, high = low.Add(-easternmost), high.Add(westernmost)
	}
	return low, high
}

func compareTimes(a, b time.Time) order { return order(a.Compare(b)) }

// cutTo sets the parts behind a precision to their first value.
func cutTo(t time.Time, p precision) time.Time {
	year, month, day := t.Date()
	switch p {
	case precisionYear:
		return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	case precisionMonth:
		return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	case precisionDay:
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	case precisionHour:
		return time.Date(year, month, day, t.Hour(), 0, 0, 0, time.UTC)
	case precisionMinute:
		return time.Date(year, month, day, t.Hour(), t.Minute(), 0, 0, time.UTC)
	case precisionSecond:
		return time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	}
	return t
}

// equivalentMoments is ~ for moments: different precisions are different.
func equivalentMoments(a, b *moment) bool {
	if min(a.precision, precisionSecond) != min(b.precision, precisionSecond) {
		return false
	}
	return compareMoments(a, b) == same
}

// shift is a stretch of time in units of the calendar.
type shift struct {
	n    int64
	unit precision // Year, Month, Day, Hour, …
}

// add moves a moment as N1 section 6.6.7 says: a unit finer than the precision
// counts in whole units of the precision; a day that the month does not have
// becomes the month's last. It is false when the result leaves the years 1 to
// 9999.
func (m *moment) add(by shift) (*moment, bool) {
	if by.n > maxMove || by.n < -maxMove {
		return nil, false
	}
	if by.unit > m.precision && m.kind != kindTime {
		by = by.coarser(m.precision)
	}
	r := *m
	switch by.unit {
	case precisionYear:
		r.wall = addMonths(m.wall, 12*by.n)
	case precisionMonth:
		r.wall = addMonths(m.wall, by.n)
	default:
		perDay := dayMillis / unitMillis[by.unit]
		rest := time.Duration(by.n%perDay*unitMillis[by.unit]) * time.Millisecond
		r.wall = m.wall.AddDate(0, 0, int(by.n/perDay)).Add(rest)
	}
	if m.kind == kindTime {
		r.wall = onFirstDay(r.wall)
	}
	if m.precision == precisionMilli {
		r.fraction = max(m.fraction, 3)
	}
	return &r, 1 <= r.wall.Year() && r.wall.Year() <= 9999
}

// maxMove bounds how many units a moment is moved by: ten thousand years are
// fewer milliseconds.
const maxMove = 1 << 49

const dayMillis = 24 * 3600_000

// unitMillis is the length of units; a year counts 365 days and a month 30
// where one turns into the other (N1 section 6.6.7).
var unitMillis = map[precision]int64{
	precisionYear: 365 * dayMillis, precisionMonth: 30 * dayMillis, precisionDay: dayMillis,
	precisionHour: 3600_000, precisionMinute: 60_000, precisionSecond: 1000, precisionMilli: 1,
}

// coarser turns units into whole ones of a coarser precision.
func (s shift) coarser(to precision) shift {
	if s.unit == precisionMonth {
		return shift{s.n / 12, to}
	}
	return shift{s.n / (unitMillis[to] / unitMillis[s.unit]), to}
}

func addMonths(t time.Time, months int64) time.Time {
	const beyond = 12 * 20_000 // out of the calendar in either direction
	months = max(-beyond, min(months, beyond))
	first := time.Date(t.Year(), t.Month()+time.Month(months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}
