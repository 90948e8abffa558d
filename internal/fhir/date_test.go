package fhir_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// at reads a moment by another route, for expectations.
func at(t testing.TB, s string) int64 {
	t.Helper()
	v, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UnixMilli()
}

func TestParseDate(t *testing.T) {
	for _, tt := range []struct {
		text, low, high string
		precision       fhir.Precision
	}{
		{"2020", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", fhir.Year},
		{"0001", "0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z", fhir.Year},
		{"9998", "9998-01-01T00:00:00Z", "9999-01-01T00:00:00Z", fhir.Year},
		{"2020-12", "2020-12-01T00:00:00Z", "2021-01-01T00:00:00Z", fhir.Month},
		{"2020-02-29", "2020-02-29T00:00:00Z", "2020-03-01T00:00:00Z", fhir.Day},
		{"1969-12-31", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z", fhir.Day},
		{"2000-02-29", "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z", fhir.Day},
		{"2020-05-06T07:08:09Z", "2020-05-06T07:08:09Z", "2020-05-06T07:08:10Z", fhir.Second},
		{"2020-05-06T00:08:09+14:00", "2020-05-05T10:08:09Z", "2020-05-05T10:08:10Z", fhir.Second},
		{"2020-05-06T23:08:09-03:30", "2020-05-07T02:38:09Z", "2020-05-07T02:38:10Z", fhir.Second},
		{"2020-05-06T07:08:09-00:00", "2020-05-06T07:08:09Z", "2020-05-06T07:08:10Z", fhir.Second},
		{"2020-05-06T07:08:09.5Z", "2020-05-06T07:08:09.5Z", "2020-05-06T07:08:09.501Z", fhir.Millisecond},
		{"2020-05-06T07:08:09.012Z", "2020-05-06T07:08:09.012Z", "2020-05-06T07:08:09.013Z", fhir.Millisecond},
		{"2020-05-06T07:08:09.999999999999Z", "2020-05-06T07:08:09.999Z", "2020-05-06T07:08:10Z", fhir.Millisecond},
		{"1960-05-06T07:08:09.0009Z", "1960-05-06T07:08:09Z", "1960-05-06T07:08:09.001Z", fhir.Millisecond},
		{"2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z", "2017-01-01T00:00:00Z", fhir.Second},
	} {
		v, precision, err := fhir.ParseDate(tt.text)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := (fhir.Interval{Low: at(t, tt.low), High: at(t, tt.high)}); v != want || precision != tt.precision {
			t.Errorf("ParseDate(%s) = %v %v, want %v %v", tt.text, v, precision, want, tt.precision)
		}
		if loose, p, err := fhir.ParseSearchDate(tt.text); loose != v || p != precision || err != nil {
			t.Errorf("ParseSearchDate(%s) = %v %v %v, unlike ParseDate", tt.text, loose, p, err)
		}
	}
	// 9999 must not wrap: its end is after its beginning.
	if v, _, err := fhir.ParseDate("9999-12-31"); err != nil || v.Low >= v.High || v.High >= fhir.MaxTime {
		t.Errorf("9999-12-31: %v, %v", v, err)
	}
}

func TestParseDateRefuses(t *testing.T) {
	for _, text := range []string{
		"", "1", "20", "202", "20200", "0000", "-2020", "+2020", "2020-", "2020-1", "2020-13", "2020-00", "2020-01-", "2020-01-1",
		"2020-01-00", "2020-01-32", "2021-02-29", "1900-02-29", "2020-04-31", "2020/01/01", "2020-01-01 ", " 2020", "2020-01-01T",
		"2020-01-01t00:00:00Z", "2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00:61Z", "2020-01-01T0:00:00Z",
		"2020-01-01T00:00:00.Z", "2020-01-01T00:00:00z", "2020-01-01T00:00:00+1:00", "2020-01-01T00:00:00+0100", "2020-01-01T00:00:00+14:01",
		"2020-01-01T00:00:00+15:00", "2020-01-01T00:00:00+01:60", "2020-01-01T00:00:00ZZ", "2020-01T00:00:00Z", "٢٠٢٠",
		strings.Repeat("9", 1000),
	} {
		for _, parse := range []func(string) (fhir.Interval, fhir.Precision, error){fhir.ParseDate, fhir.ParseSearchDate} {
			if v, _, err := parse(text); !fault.Is(err, fault.Syntax) || len(err.Error()) > 300 {
				t.Errorf("%q = %v, %v, want Syntax", text, v, err)
			}
		}
	}
}

func TestSearchDatesMayBeShorter(t *testing.T) {
	for text, low := range map[string]string{
		"2020-01-02T03:04":          "2020-01-02T03:04:00Z",
		"2020-01-02T03:04Z":         "2020-01-02T03:04:00Z",
		"2020-01-02T03:04-01:00":    "2020-01-02T04:04:00Z",
		"2020-01-02T03:04:05":       "2020-01-02T03:04:05Z",
		"2020-01-02T03:04:05.25":    "2020-01-02T03:04:05.25Z",
		"2020-01-02T03:04:05 02:00": "2020-01-02T01:04:05Z",
	} {
		if _, _, err := fhir.ParseDate(text); err == nil {
			t.Errorf("ParseDate takes %s", text)
		}
		v, _, err := fhir.ParseSearchDate(text)
		if err != nil || v.Low != at(t, low) {
			t.Errorf("ParseSearchDate(%s) = %v, %v", text, v, err)
		}
	}
	if v, p, _ := fhir.ParseSearchDate("2020-01-02T03:04"); p != fhir.Minute || v.High-v.Low != 60_000 {
		t.Errorf("a minute is %v long, precision %v", v.High-v.Low, p)
	}
}

// A Stretch has the digits that an Interval leaves out: of a resource a moment, of a
// search what its last digit leaves open.
func TestStretches(t *testing.T) {
	const unit = 10_000_000_000_000_000_000 // of a millisecond
	second := at(t, "2020-05-06T07:08:09Z")
	m := func(milli int64, beyond uint64) fhir.Moment {
		return fhir.Moment{Milli: second + milli, Beyond: beyond}
	}
	for _, tt := range []struct {
		text           string
		low, end, wide fhir.Moment
		fine           bool
	}{
		{"2020-05-06T07:08:09Z", m(0, 0), m(1000, 0), m(1000, 0), false},
		{"2020-05-06T07:08:09.5Z", m(500, 0), m(500, 1), m(501, 0), false},
		{"2020-05-06T07:08:09.500Z", m(500, 0), m(500, 1), m(501, 0), false},
		{"2020-05-06T07:08:09.5000Z", m(500, 0), m(500, 1), m(500, unit/10), true},
		{"2020-05-06T07:08:09.5009Z", m(500, unit/10*9), m(500, unit/10*9+1), m(501, 0), true},
		{"2020-05-06T07:08:09.1234567Z", m(123, unit/10000*4567), m(123, unit/10000*4567+1), m(123, unit/10000*4568), true},
		{"2020-05-06T07:08:09.9999999999999999999999Z", m(999, unit-1), m(1000, 0), m(1000, 0), true},
		{"2020-05-06T07:08:09.00000000000000000000019Z", m(0, 1), m(0, 2), m(0, 2), true},
	} {
		if v, err := fhir.ParseStretch(tt.text); err != nil || v != (fhir.Stretch{Low: tt.low, High: tt.end}) {
			t.Errorf("ParseStretch(%s) = %v, %v", tt.text, v, err)
		}
		v, fine, err := fhir.ParseSearchStretch(tt.text)
		if err != nil || v != (fhir.Stretch{Low: tt.low, High: tt.wide}) || fine != tt.fine {
			t.Errorf("ParseSearchStretch(%s) = %v, %v, %v", tt.text, v, fine, err)
		}
		if i, _, _ := fhir.ParseSearchDate(tt.text); v.Interval() != i {
			t.Errorf("%s: its milliseconds are %v and %v", tt.text, v.Interval(), i)
		}
	}
}

func TestPeriodInterval(t *testing.T) {
	for _, tt := range []struct {
		text      string
		low, high int64
		ok        bool
	}{
		{`{"start":"2020","end":"2020-02"}`, at(t, "2020-01-01T00:00:00Z"), at(t, "2020-03-01T00:00:00Z"), true},
		{`{"start":"2020-01-01T00:00:00"}`, at(t, "2020-01-01T00:00:00Z"), fhir.MaxTime, true},
		{`{"end":"2020"}`, fhir.MinTime, at(t, "2021-01-01T00:00:00Z"), true},
		{`{"start":"2020","end":"2020"}`, at(t, "2020-01-01T00:00:00Z"), at(t, "2021-01-01T00:00:00Z"), true},
		{`{}`, 0, 0, false}, {`[]`, 0, 0, false}, {`{"start":1}`, 0, 0, false}, {`{"start":"x","end":"2020"}`, 0, 0, false},
		{`{"start":"2020","end":"x"}`, 0, 0, false}, {`{"start":"2021","end":"2020"}`, 0, 0, false},
	} {
		v, ok := fhir.PeriodInterval(mustParse(t, tt.text).Root())
		if ok != tt.ok || ok && v != (fhir.Interval{Low: tt.low, High: tt.high}) {
			t.Errorf("%s: %v %v", tt.text, v, ok)
		}
	}
	if _, ok := fhir.PeriodInterval(fhir.Node{}); ok {
		t.Error("an absent Period has a stretch")
	}
}

func TestIntervals(t *testing.T) {
	year, june := fhir.Interval{Low: 0, High: 12}, fhir.Interval{Low: 5, High: 6}
	for _, tt := range []struct {
		name      string
		got, want bool
	}{
		{"a year contains its june", year.Contains(june), true}, {"june contains no year", june.Contains(year), false},
		{"a year contains itself", year.Contains(year), true}, {"june overlaps the year", june.Overlaps(year), true},
		{"neighbours do not overlap", june.Overlaps(fhir.Interval{Low: 6, High: 7}), false},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v", tt.name, tt.got)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, text := range []string{"2020", "2020-01", "2020-01-02", "2020-01-02T03:04:05Z", "2020-01-02T03:04:05.678+09:30", "2020-01-02T03:04 01:00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, precision, err := fhir.ParseDate(text)
		loose, _, looseErr := fhir.ParseSearchDate(text)
		wide, _, wideErr := fhir.ParseSearchStretch(text)
		if (wideErr == nil) != (looseErr == nil) || wideErr == nil && (wide.Interval() != loose || !wide.Low.Before(wide.High)) {
			t.Fatalf("%q: %v, with all digits %v, %v", text, loose, wide, wideErr)
		}
		if err == nil && (looseErr != nil || loose != v) {
			t.Fatalf("%q: %v, but for search %v, %v", text, v, loose, looseErr)
		}
		if looseErr == nil && loose.Low >= loose.High {
			t.Fatalf("%q is empty: %v", text, loose)
		}
		if err != nil || precision < fhir.Second || strings.Contains(text, ":60") {
			return
		}
		// Go's own parser is the oracle for full date times.
		want, goErr := time.Parse(time.RFC3339, text)
		if goErr != nil || want.UnixMilli() != v.Low {
			t.Fatalf("%q = %v, Go has %v, %v", text, v, want, goErr)
		}
	})
}

// Every month's first and last day is where package time puts it.
func TestDatesAreTimes(t *testing.T) {
	for year := 1; year <= 9999; year++ {
		for month := 1; month <= 12; month++ {
			if year > 5 && year%97 != 0 && (year < 1896 || year > 2105) {
				continue
			}
			first := time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC)
			next := first.AddDate(0, 1, 0)
			for _, c := range []struct {
				text string
				want fhir.Interval
			}{
				{first.Format("2006-01"), fhir.Interval{Low: first.UnixMilli(), High: next.UnixMilli()}},
				{next.AddDate(0, 0, -1).Format("2006-01-02"), fhir.Interval{Low: next.AddDate(0, 0, -1).UnixMilli(), High: next.UnixMilli()}},
			} {
				if got, _, err := fhir.ParseDate(c.text); err != nil || got != c.want {
					t.Fatalf("%s: %v, %v, want %v", c.text, got, err, c.want)
				}
			}
			if _, _, err := fhir.ParseDate(first.Format("2006-01-") + fmt.Sprint(next.AddDate(0, 0, -1).Day()+1)); err == nil {
				t.Fatalf("a day too many in %s", first.Format("2006-01"))
			}
		}
	}
}
