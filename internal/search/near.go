package search

import (
	"math"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/search/ucum"
)

// Position is a place on the earth in degrees (WGS 84).
type Position struct{ Latitude, Longitude float64 }

// Valid reports whether the degrees are degrees.
func (p Position) Valid() bool {
	return math.Abs(p.Latitude) <= 90 && math.Abs(p.Longitude) <= 180
}

// Metres is the distance of two places on a ball (the haversine formula).
func (p Position) Metres(to Position) float64 {
	const rad = math.Pi / 180
	latitude, longitude := math.Sin((to.Latitude-p.Latitude)*rad/2), math.Sin((to.Longitude-p.Longitude)*rad/2)
	h := latitude*latitude + math.Cos(p.Latitude*rad)*math.Cos(to.Latitude*rad)*longitude*longitude
	return 2 * earthRadius * math.Asin(math.Sqrt(min(1, h)))
}

// Near are the places that the query asks its matches to be near to.
func (q *Query) Near() []Position {
	var all []Position
	for _, clause := range q.Clauses {
		for _, on := range clause.On {
			m, ok := on.Cond.(Match)
			if !ok || m.Param.Kind != KindPosition {
				continue
			}
			for _, v := range m.Values {
				if v, ok := v.(PositionValue); ok {
					all = append(all, v.Position)
				}
			}
		}
	}
	return all
}

// PositionValue is a circle: latitude|longitude[|distance[|unit]] of
// Location.near (http://hl7.org/fhir/R4/location.html#search).
type PositionValue struct {
	Position
	Metres float64
}

func (PositionValue) value() {}

// DefaultNear is the distance, in metres, of a near without one: R4 leaves it to
// the server.
const DefaultNear = 50_000

// earthRadius is the mean radius of the earth in metres (IUGG 1980, R1). The
// earth is no ball: true distances differ by up to half a percent.
const earthRadius = 6_371_008.8

// Position is where a resource is.
func (e *Entries) Position(p *Param, at Position) {
	from := e.begin()
	e.arena = appendFloat(appendFloat(e.arena, at.Latitude), at.Longitude)
	e.keep(p, Main, from)
}

func parsePosition(s string) (PositionValue, string) {
	const form = "is not latitude|longitude, latitude|longitude|distance or latitude|longitude|distance|unit, in degrees and UCUM (km without a unit)"
	parts := split(s, '|')
	if len(parts) < 2 || len(parts) > 4 {
		return PositionValue{}, form
	}
	v := PositionValue{Metres: DefaultNear}
	var err1, err2 error
	v.Latitude, err1 = strconv.ParseFloat(unescape(parts[0]), 64)
	v.Longitude, err2 = strconv.ParseFloat(unescape(parts[1]), 64)
	if err1 != nil || err2 != nil || !v.Valid() {
		return v, form
	}
	if len(parts) == 2 || parts[2] == "" {
		return v, ""
	}
	unit := "km"
	if len(parts) == 4 && parts[3] != "" {
		unit = unescape(parts[3])
	}
	distance, err := strconv.ParseFloat(unescape(parts[2]), 64)
	u, ok := ucum.Parse(unit)
	if err != nil || !(distance >= 0) || !ok || u.Dimension() != metre.Dimension() {
		return v, form
	}
	v.Metres, ok = u.Base(distance)
	if !ok || math.IsInf(v.Metres, 0) {
		return v, form
	}
	return v, ""
}

var metre, _ = ucum.Parse("m")

// nearStrips is into how many strips of latitude a circle is cut. Each is as
// wide as the circle is at its widest there, so that all within the distance are
// found, and of the places up to a fiftieth farther some (more where the
// circle reaches a pole, or is of thousands of kilometres).
const nearStrips = 64

// near is a circle as ranges over latitude|longitude.
func (v PositionValue) near(column plan.Param) plan.Node {
	any := plan.Or{}
	c := newCircle(v)
	for i := range nearStrips {
		// Strips are even in the angle around the centre: thin at top and bottom,
		// where the circle bends most.
		south := c.latitude - c.radius*math.Cos(math.Pi*float64(i)/nearStrips)
		north := c.latitude - c.radius*math.Cos(math.Pi*float64(i+1)/nearStrips)
		if south > math.Pi/2 || north < -math.Pi/2 {
			continue
		}
		width := c.widest(max(south, -math.Pi/2), min(north, math.Pi/2))
		for _, side := range around(degrees(c.longitude), degrees(width)) {
			any = append(any, plan.Range{Param: column,
				Low: double(degrees(south) - slack), High: after(double(degrees(north) + slack)),
				Tail: &plan.Tail{At: 8, Low: double(side[0] - slack), High: after(double(side[1] + slack))}})
		}
	}
	return any
}

// slack, in degrees, is a tenth of a millimetre: so that rounding loses nobody
// on the edge.
const slack = 1e-9

func degrees(radians float64) float64 { return radians * 180 / math.Pi }

// circle is a centre and a radius, in radians.
type circle struct{ latitude, longitude, radius float64 }

func newCircle(v PositionValue) circle {
	return circle{v.Latitude * math.Pi / 180, v.Longitude * math.Pi / 180, min(v.Metres/earthRadius, math.Pi)}
}

// widest is half of the circle's greatest width, in radians of longitude,
// between two latitudes.
func (c circle) widest(south, north float64) float64 {
	width := max(c.width(south), c.width(north))
	if s := math.Sin(c.latitude) / math.Cos(c.radius); math.Abs(s) <= 1 {
		if top := math.Asin(s); south < top && top < north {
			width = max(width, c.width(top))
		}
	}
	return width
}

// width is half of the circle's width on a latitude, by the law of cosines:
// cos r = sin φ₀ sin φ + cos φ₀ cos φ cos Δλ.
func (c circle) width(latitude float64) float64 {
	d := math.Cos(c.latitude) * math.Cos(latitude)
	n := math.Cos(c.radius) - math.Sin(c.latitude)*math.Sin(latitude)
	switch {
	case n <= -d || d < 1e-12 && n <= 0:
		return math.Pi // all the way around: a pole is inside
	case n >= d:
		return 0
	}
	return math.Acos(n / d)
}

// around are the longitudes from middle-width to middle+width in degrees, cut
// where 180 meets -180.
func around(middle, width float64) [][2]float64 {
	west, east := middle-width, middle+width
	switch {
	case width >= 180:
		return [][2]float64{{-180, 180}}
	case west < -180:
		return [][2]float64{{-180, east}, {west + 360, 180}}
	case east > 180:
		return [][2]float64{{west, 180}, {-180, east - 360}}
	}
	return [][2]float64{{west, east}}
}
