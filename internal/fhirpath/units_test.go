package fhirpath_test

import (
	"encoding/xml"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

type ucumSuite struct {
	Conversions []struct {
		ID      string `xml:"id,attr"`
		Value   string `xml:"value,attr"`
		From    string `xml:"srcUnit,attr"`
		To      string `xml:"dstUnit,attr"`
		Outcome string `xml:"outcome,attr"`
	} `xml:"conversion>case"`
	Products  []ucumPair `xml:"multiplication>case"`
	Quotients []ucumPair `xml:"division>case"`
}

type ucumPair struct {
	ID  string `xml:"id,attr"`
	V1  string `xml:"v1,attr"`
	U1  string `xml:"u1,attr"`
	V2  string `xml:"v2,attr"`
	U2  string `xml:"u2,attr"`
	Res string `xml:"vRes,attr"`
	To  string `xml:"uRes,attr"`
}

// leastConversions is how many of UCUM's cases have units the engine knows.
const leastConversions = 28

// What the engine converts, multiplies and divides agrees with UCUM's own
// tests, within the digits their outcomes are rounded to.
func TestUCUM(t *testing.T) {
	src, err := os.ReadFile(testpath.Shared(t, "suites", "ucum-functional-tests.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var suite ucumSuite
	if err := xml.Unmarshal(src, &suite); err != nil {
		t.Fatal(err)
	}
	done := 0
	try := func(id, expression, outcome string) {
		got, err := evaluate(expression, nil, fhir.Node{})
		if err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if len(got) == 0 {
			return // a unit the engine does not know
		}
		done++
		q, _ := got[0].Quantity()
		value, _ := q.Value.Float64()
		want, err := strconv.ParseFloat(outcome, 64)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(value-want) > 0.03*math.Abs(want) {
			t.Errorf("%s: %s gives %s, want %s", id, expression, q, outcome)
		}
	}
	for _, c := range suite.Conversions {
		try(c.ID, quantity(c.Value, c.From)+".toQuantity('"+c.To+"')", c.Outcome)
	}
	for _, c := range suite.Products {
		try(c.ID, "("+quantity(c.V1, c.U1)+" * "+quantity(c.V2, c.U2)+").toQuantity('"+c.To+"')", c.Res)
	}
	for _, c := range suite.Quotients {
		try(c.ID, "("+quantity(c.V1, c.U1)+" / "+quantity(c.V2, c.U2)+").toQuantity('"+c.To+"')", c.Res)
	}
	if done < leastConversions {
		t.Errorf("%d cases done, want %d", done, leastConversions)
	}
}

func quantity(value, unit string) string { return value + " '" + unit + "'" }
