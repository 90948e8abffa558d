package validate

// moment is a date, dateTime, instant or time taken apart. Fields that were not
// written are zero, but for month and day.
type moment struct {
	rest []byte
	// parts counts what was written: 1 year, 2 month, 3 day, 6 with seconds.
	parts int
	field [6]int // year to second
	nanos int
	zone  int // minutes east of UTC
}

// momentFault checks the four types in time.
func (p primitive) momentFault(text []byte) string {
	m := moment{rest: text}
	switch p {
	case primitiveTime:
		if !m.clock() || len(m.rest) > 0 {
			return "a time is written hh:mm:ss"
		}
	case primitiveDate:
		if !m.date() || len(m.rest) > 0 {
			return "a date is written YYYY, YYYY-MM or YYYY-MM-DD, and the day must exist"
		}
	case primitiveInstant:
		if !m.dateTime() || m.parts < 6 {
			return "an instant is written YYYY-MM-DDThh:mm:ss+zz:zz"
		}
	default:
		if !m.dateTime() {
			return "a dateTime is written YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz, and the day must exist"
		}
	}
	return ""
}

// dateTime reads all of rest.
func (m *moment) dateTime() bool {
	if !m.date() {
		return false
	}
	if m.parts == 3 && m.take('T') && (!m.clock() || !m.timeZone()) {
		return false
	}
	return len(m.rest) == 0
}

func (m *moment) date() bool {
	m.field[1], m.field[2] = 1, 1
	if !m.number(0, 4, 1, 9999) {
		return false
	}
	m.parts = 1
	if !m.take('-') {
		return true
	}
	if !m.number(1, 2, 1, 12) {
		return false
	}
	m.parts = 2
	if !m.take('-') {
		return true
	}
	m.parts = 3
	return m.number(2, 2, 1, daysIn(m.field[0], m.field[1]))
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// clock reads hh:mm:ss and a fraction; second 60 is the leap second.
func (m *moment) clock() bool {
	if !m.number(3, 2, 0, 23) || !m.take(':') || !m.number(4, 2, 0, 59) || !m.take(':') || !m.number(5, 2, 0, 60) {
		return false
	}
	m.parts = 6
	return !m.take('.') || m.fraction()
}

// fraction reads the digits behind the point; those beyond the ninth count for
// nothing.
func (m *moment) fraction() bool {
	n, scale := 0, 100_000_000
	for n < len(m.rest) && isDigit(m.rest[n]) {
		m.nanos += int(m.rest[n]-'0') * scale
		scale /= 10
		n++
	}
	m.rest = m.rest[n:]
	return n > 0
}

// maxZone is the farthest zone from UTC, in minutes (14:00).
const maxZone = 14 * 60

func (m *moment) timeZone() bool {
	if m.take('Z') {
		return true
	}
	sign := 1
	if m.take('-') {
		sign = -1
	} else if !m.take('+') {
		return false
	}
	hours, minutes := moment{rest: m.rest}, 0
	if !hours.number(0, 2, 0, 14) || !hours.take(':') || !hours.number(1, 2, 0, 59) {
		return false
	}
	minutes = hours.field[0]*60 + hours.field[1]
	m.rest, m.zone = hours.rest, sign*minutes
	return minutes <= maxZone
}

func (m *moment) take(c byte) bool {
	if len(m.rest) == 0 || m.rest[0] != c {
		return false
	}
	m.rest = m.rest[1:]
	return true
}

// number reads exactly so many digits into a field.
func (m *moment) number(field, digits, least, most int) bool {
	if len(m.rest) < digits {
		return false
	}
	v := 0
	for _, c := range m.rest[:digits] {
		if !isDigit(c) {
			return false
		}
		v = 10*v + int(c-'0')
	}
	m.field[field], m.rest = v, m.rest[digits:]
	return least <= v && v <= most
}

// after reports whether m is certainly later than other. Of two dates it is the
// one that is later in what both have. A date beside a dateTime has no zone and
// may be any, so it is certain only beyond all zones.
func (m *moment) after(other *moment) bool {
	switch {
	case m.parts == 6 && other.parts == 6:
		if a, b := m.seconds(), other.seconds(); a != b {
			return a > b
		}
		return m.nanos > other.nanos
	case m.parts == 6:
		return m.seconds() >= other.end()+maxZone*60
	case other.parts == 6:
		return m.seconds()-maxZone*60 > other.seconds()
	}
	for i := range min(m.parts, other.parts) {
		if m.field[i] != other.field[i] {
			return m.field[i] > other.field[i]
		}
	}
	return false
}

// end is the first second behind the year, month or day that a date names.
func (m *moment) end() int {
	next := *m
	switch m.parts {
	case 1:
		next.field[0]++
	case 2:
		next.field[0] += m.field[1] / 12
		next.field[1] = m.field[1]%12 + 1
	default:
		return m.seconds() + 24*60*60
	}
	return next.seconds()
}

// seconds is the moment in seconds of UTC since 1 March of the year 0.
func (m *moment) seconds() int {
	year, month := m.field[0], m.field[1]-3
	if month < 0 {
		year, month = year-1, month+12
	}
	days := 365*year + year/4 - year/100 + year/400 + (153*month+2)/5 + m.field[2] - 1
	return days*86400 + m.field[3]*3600 + (m.field[4]-m.zone)*60 + m.field[5]
}
