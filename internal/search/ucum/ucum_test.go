package ucum

import (
	"encoding/xml"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

// suite is UCUM's functional tests (3 February 2021).
type suite struct {
	Validation []struct {
		ID    string `xml:"id,attr"`
		Unit  string `xml:"unit,attr"`
		Valid bool   `xml:"valid,attr"`
	} `xml:"validation>case"`
	Conversion []struct {
		ID      string `xml:"id,attr"`
		Value   string `xml:"value,attr"`
		From    string `xml:"srcUnit,attr"`
		To      string `xml:"dstUnit,attr"`
		Outcome string `xml:"outcome,attr"`
	} `xml:"conversion>case"`
}

func readSuite(t *testing.T) suite {
	t.Helper()
	raw, err := os.ReadFile(testpath.Shared(t, "suites", "ucum-functional-tests.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := xml.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// What Parse gives is the caller's own, also where it is a unit of the catalogue:
// requests at once parse the same.
func TestUnitsAreNotShared(t *testing.T) {
	for _, code := range []string{"m", "g", "[degF]", "mg/dL"} {
		a, okA := Parse(code)
		b, okB := Parse(code)
		if !okA || !okB || a == b {
			t.Errorf("%s: %t, %t, the same: %t", code, okA, okB, a == b)
		}
	}
}

func TestValidity(t *testing.T) {
	s := readSuite(t)
	if len(s.Validation) < 529 {
		t.Fatalf("%d cases", len(s.Validation))
	}
	for _, c := range s.Validation {
		if _, ok := Parse(c.Unit); ok != c.Valid {
			t.Errorf("%s: %q is a unit: %t, want %t", c.ID, c.Unit, ok, c.Valid)
		}
	}
}

// halfDigit is half of the last digit that a number is given to.
func halfDigit(text string) float64 {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	_, fraction, _ := strings.Cut(mantissa, ".")
	e, _ := strconv.Atoi(exponent)
	return 0.5 * math.Pow10(e-len(fraction))
}

// Both amounts of a conversion are the same in base units, to the last digit
// that the suite gives.
func TestConversions(t *testing.T) {
	s := readSuite(t)
	if len(s.Conversion) < 30 {
		t.Fatalf("%d cases", len(s.Conversion))
	}
	for _, c := range s.Conversion {
		from, ok1 := Parse(c.From)
		to, ok2 := Parse(c.To)
		if !ok1 || !ok2 || from.Dimension() != to.Dimension() {
			t.Errorf("%s: %q and %q cannot be compared", c.ID, c.From, c.To)
			continue
		}
		x, _ := strconv.ParseFloat(c.Value, 64)
		y, _ := strconv.ParseFloat(c.Outcome, 64)
		a, ok1 := from.Base(x)
		b, ok2 := to.Base(y)
		least, _ := to.Base(y - halfDigit(c.Outcome)*1.000001)
		most, _ := to.Base(y + halfDigit(c.Outcome)*1.000001)
		if !ok1 || !ok2 || a < least || a > most {
			t.Errorf("%s: %s %s is %g, %s %s is %g %s", c.ID, c.Value, c.From, a, c.Outcome, c.To, b, to.Dimension())
		}
	}
}

func TestBase(t *testing.T) {
	for _, c := range []struct {
		a    float64
		unit string
		b    float64
		as   string
	}{
		{5.4, "g", 5400, "mg"}, {0.1, "mg", 0.0001, "g"}, {140, "mm[Hg]", 18.66508, "kPa"},
		{37, "Cel", 98.6, "[degF]"}, {37, "Cel", 310.15, "K"}, {72, "{beats}/min", 72, "/min"},
		{100, "mg/dL", 1, "g/L"}, {1, "[lb_av]", 453.59237, "g"}, {1, "[in_i]", 2.54, "cm"},
		{5, "%", 0.05, "1"}, {4.5, "10*3/uL", 4.5e9, "/L"}, {1, "[IU]/L", 1, "[iU]/l"}, {1, "mmol/L", 1, "mol/m3"},
	} {
		from, ok1 := Parse(c.unit)
		to, ok2 := Parse(c.as)
		if !ok1 || !ok2 || from.Dimension() != to.Dimension() {
			t.Errorf("%s and %s cannot be compared", c.unit, c.as)
			continue
		}
		a, _ := from.Base(c.a)
		if b, ok := to.Base(c.b); !ok || a != b {
			t.Errorf("%g %s is %v, %g %s is %v", c.a, c.unit, a, c.b, c.as, b)
		}
	}
}

// Amounts on scales that are not known, or that do not stand alone, are units
// without base; arbitrary units are comparable to themselves only.
func TestWithoutBase(t *testing.T) {
	for _, code := range []string{"[pH]", "dB", "B[SPL]", "Cel/min", "Cel2", "%[slope]"} {
		u, ok := Parse(code)
		if !ok {
			t.Errorf("%s is no unit", code)
			continue
		}
		if v, ok := u.Base(1); ok {
			t.Errorf("1 %s is %g", code, v)
		}
	}
	a, _ := Parse("[iU]")
	b, _ := Parse("[arb'U]")
	if a.Dimension() == b.Dimension() {
		t.Error("arbitrary units are comparable")
	}
}

func FuzzParse(f *testing.F) {
	for _, code := range []string{"mg/dL", "10*-3/ul", "m[H2O]", "{a}", "((m))", "/m2.s-1", "B[10.nV]", "10*99.10*99.10*99", "2[pi].rad"} {
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		u, ok := Parse(code)
		if !ok {
			return
		}
		low, ok1 := u.Base(1)
		high, ok2 := u.Base(2)
		if ok1 && ok2 && low > high {
			t.Errorf("1 %s is %g, 2 are %g", code, low, high)
		}
	})
}
