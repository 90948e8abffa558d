package search

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Everything within distances up to 2,000 km is found, and nothing that is over two
// hundredths farther unless a pole is inside; where the day begins too.
func TestNear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := &Param{Number: 7, Kind: KindPosition}
	inside, outside := 0, 0
	for range 3000 {
		v := PositionValue{Position{rng.Float64()*180 - 90, rng.Float64()*360 - 180}, math.Pow(10, 2+rng.Float64()*4.3)}
		switch rng.IntN(4) {
		case 0:
			v.Longitude = 180 - rng.Float64()*0.1
		case 1:
			v.Latitude = math.Copysign(90-rng.Float64()*0.5, v.Latitude)
		}
		node := v.near(p.At(Main))
		for range 10 {
			at := somewhereNear(rng, v)
			e := NewEntries(plan.HashKey{})
			e.Position(p, at)
			found, away := holds(node, e.Done()), v.Position.Metres(at)
			switch {
			case away <= v.Metres:
				if inside++; !found {
					t.Errorf("%v is %g m from %v and not found", at, away, v)
				}
			case away > v.Metres*1.02+1 && math.Abs(v.Latitude)+degrees(v.Metres/earthRadius) < 89:
				if outside++; found {
					t.Errorf("%v is %g m from %v and found", at, away, v)
				}
			}
		}
	}
	if inside < 3000 || outside < 2000 {
		t.Errorf("%d inside, %d outside", inside, outside)
	}
}

// somewhereNear is a place up to twice as far as the circle reaches.
func somewhereNear(rng *rand.Rand, v PositionValue) Position {
	distance, bearing := rng.Float64()*2*v.Metres/earthRadius, rng.Float64()*2*math.Pi
	lat, lon := v.Latitude*math.Pi/180, v.Longitude*math.Pi/180
	to := math.Asin(max(-1, min(1, math.Sin(lat)*math.Cos(distance)+math.Cos(lat)*math.Sin(distance)*math.Cos(bearing))))
	lon += math.Atan2(math.Sin(bearing)*math.Sin(distance)*math.Cos(lat), math.Cos(distance)-math.Sin(lat)*math.Sin(to))
	return Position{degrees(to), math.Mod(degrees(lon)+540+360, 360) - 180}
}
