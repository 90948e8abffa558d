package oracle

import (
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/search/ucum"
)

// one reports whether an element meets a value that is no composite.
func (a asker) one(p *search.Param, m search.Modifier, v value, wanted search.Value) bool {
	switch wanted := wanted.(type) {
	case search.TokenValue:
		codes := codings(v)
		if m == search.ModIdentifier {
			codes = codings(value{member1(v, "identifier"), "Identifier"})
		}
		if m == search.ModStarts {
			return slices.ContainsFunc(codes, func(c coding) bool { return strings.HasPrefix(strings.ToLower(c.code), strings.ToLower(wanted.Code)) })
		}
		return slices.ContainsFunc(codes, func(c coding) bool { return c.meets(p, wanted) })
	case search.OfTypeValue:
		return ofType(v, wanted)
	case search.ReferenceValue:
		return a.pointer(v).meets(wanted)
	case search.StringValue:
		return textMeets(p, m, v, string(wanted))
	case search.URIValue:
		return uriMeets(v, m, string(wanted))
	case search.DateValue:
		low, high, ok := interval(v)
		if wanted.Exact != nil && wanted.Prefix != search.Ap {
			return ok && exactMeets(v, wanted)
		}
		return ok && dateMeets(low, high, wanted, a.now)
	case search.NumberValue:
		low, high, ok := amount(v)
		return ok && numberMeets(low, high, wanted)
	case search.QuantityValue:
		low, high, ok := amount(v)
		return ok && quantityMeets(v, low, high, wanted)
	}
	return false
}

// searchable reports whether an element offers anything under a kind.
func (a asker) searchable(k search.Kind, v value) bool {
	switch k {
	case search.KindToken:
		return slices.ContainsFunc(codings(v), func(c coding) bool { return c.code != "" })
	case search.KindReference:
		to := a.pointer(v)
		return to.key.ID != "" || to.url != ""
	case search.KindString:
		return slices.ContainsFunc(texts(v), func(s string) bool { return fold(s) != "" })
	case search.KindDate:
		_, _, ok := interval(v)
		return ok
	case search.KindNumber, search.KindQuantity:
		_, _, ok := amount(v)
		return ok
	}
	return text(v.json) != ""
}

type coding struct{ system, code string }

// meets: R4 3.1.1.4.10.
func (c coding) meets(p *search.Param, v search.TokenValue) bool {
	implied := c.system == "" && v.System != "" && v.Code != "" && p.Implied != nil && p.Implied(v.System, v.Code)
	return (v.Code == "" || strings.EqualFold(c.code, v.Code)) && (v.Any || c.system == v.System || implied)
}

// codings are the codes of an element.
func codings(v value) []coding {
	o, _ := v.json.(object)
	var all []coding
	switch v.typ {
	case "Coding":
		all = []coding{{str(o, "system"), str(o, "code")}}
	case "CodeableConcept":
		for _, c := range each(o["coding"], "Coding") {
			all = append(all, codings(c)...)
		}
	case "Identifier":
		all = []coding{{str(o, "system"), str(o, "value")}}
	case "ContactPoint":
		if s := str(o, "value"); s != "" {
			all = []coding{{"", s}, {str(o, "system"), s}}
		}
	default:
		if s := text(v.json); s != "" {
			all = []coding{{"", s}}
		}
	}
	return slices.DeleteFunc(all, func(c coding) bool { return c == coding{} })
}

func member1(v value, name string) any {
	o, _ := v.json.(object)
	return o[name]
}

// ofType: R4 3.1.1.4.10, :of-type.
func ofType(v value, wanted search.OfTypeValue) bool {
	o, _ := v.json.(object)
	return strings.EqualFold(str(o, "value"), wanted.Value) &&
		slices.ContainsFunc(codings(value{o["type"], "CodeableConcept"}), func(c coding) bool {
			return c.system == wanted.System && strings.EqualFold(c.code, wanted.Code)
		})
}

// texts are what strings look at.
func texts(v value) []string {
	o, _ := v.json.(object)
	var all []string
	several := func(names ...string) {
		for _, name := range names {
			for _, part := range each(o[name], "string") {
				if s, ok := part.json.(string); ok && s != "" {
					all = append(all, s)
				}
			}
		}
	}
	switch v.typ {
	case "HumanName":
		several("family", "given", "prefix", "suffix", "text")
	case "Address":
		several("line", "city", "district", "state", "postalCode", "country", "text")
	case "CodeableConcept":
		several("text")
		for _, c := range each(o["coding"], "Coding") {
			all = append(all, texts(c)...)
		}
	case "Coding":
		several("display")
	case "Identifier":
		if kind, ok := o["type"].(object); ok {
			all = append(all, str(kind, "text"))
		}
	case "Annotation":
		several("text")
	default:
		if s, ok := v.json.(string); ok {
			all = append(all, s)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

var unaccented = strings.NewReplacer("ß", "ss", "ẞ", "ss", "æ", "ae", "Æ", "ae", "œ", "oe", "Œ", "oe", "ø", "o", "Ø", "o",
	"ł", "l", "Ł", "l", "đ", "d", "Đ", "d", "ı", "i", "İ", "i", "ς", "σ")

// fold: R4 3.1.1.4.8, "insensitive to case and accents", and punctuation.
func fold(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if unicode.In(r, unicode.M, unicode.P) || unicode.IsControl(r) {
			return -1
		}
		return r
	}, unaccented.Replace(norm.NFKD.String(s)))
	return strings.ToLower(strings.Join(strings.Fields(s), " "))
}

// textMeets: the plain form and :text begin, :contains is inside, :exact is the
// whole, letter by letter.
func textMeets(p *search.Param, m search.Modifier, v value, wanted string) bool {
	if p.Kind == search.KindToken && v.typ != "Coding" && v.typ != "CodeableConcept" && v.typ != "Identifier" {
		return false // :text of something without text
	}
	want := fold(wanted)
	all := texts(v)
	if p.Parts && m == search.Plain {
		all = append(all, laterParts(v)...)
	}
	return slices.ContainsFunc(all, func(s string) bool {
		if holds, ok := orderMeets(m, strings.Compare(fold(s), want)); ok {
			return holds
		}
		switch {
		case m == search.ModExact:
			return s == wanted
		case want == "":
			return false
		case m == search.ModContains:
			return strings.Contains(fold(s), want)
		case m == search.ModEnds:
			return strings.HasSuffix(fold(s), want)
		}
		return strings.HasPrefix(fold(s), want)
	})
}

// laterParts are what stands behind each of the first blanks and hyphens of a
// family name.
func laterParts(v value) []string {
	family, _ := v.json.(string)
	if o, ok := v.json.(object); ok {
		family = str(o, "family")
	}
	var all []string
	for range 8 {
		at := strings.IndexFunc(family, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) })
		if at < 0 {
			break
		}
		runes := []rune(family[at:])
		family = string(runes[1:])
		all = append(all, family)
	}
	return all
}

// orderMeets: the operators of _filter that compare whole strings.
func orderMeets(m search.Modifier, order int) (holds, ok bool) {
	switch m {
	case search.ModIs:
		return order == 0, true
	case search.ModIsNot:
		return order != 0, true
	case search.ModAfter:
		return order > 0, true
	case search.ModFrom:
		return order >= 0, true
	case search.ModBefore:
		return order < 0, true
	case search.ModUpTo:
		return order <= 0, true
	}
	return false, false
}

// uriMeets: R4 3.1.1.4.16.
func uriMeets(v value, m search.Modifier, wanted string) bool {
	all := []string{text(v.json)}
	if all[0] == "" {
		return false
	}
	if bare, _, ok := strings.Cut(all[0], "|"); ok && v.typ == "canonical" && (strings.Contains(bare, "://") || strings.HasPrefix(bare, "urn:")) {
		all = append(all, bare)
		if whole, _, ok := strings.Cut(all[0], "#"); ok {
			all = append(all, whole)
		}
	}
	return slices.ContainsFunc(all, func(s string) bool {
		switch m {
		case search.ModBelow:
			return s == wanted || strings.HasPrefix(s, wanted) && !strings.HasPrefix(strings.ToLower(wanted), "urn:") && !strings.HasPrefix(s, "urn:")
		case search.ModAbove:
			authority := strings.Index(wanted, "://") + len("://")
			return s == wanted || strings.HasPrefix(wanted, s) && !strings.HasPrefix(strings.ToLower(wanted), "urn:") &&
				(authority < len("://") || len(s) > authority)
		case search.ModContains:
			return strings.Contains(s, wanted)
		case search.ModStarts:
			return strings.HasPrefix(s, wanted)
		case search.ModEnds:
			return strings.HasSuffix(s, wanted)
		}
		return s == wanted
	})
}

// pointer is where a reference points: into this store, or by URL.
type pointer struct {
	key     plan.Key
	version string
	url     string // without version
	whole   string // with it, "" without one
}

// relative is the end of a literal reference; 1 is what stands before.
var relative = regexp.MustCompile(`^(.*/)?([A-Z][A-Za-z]*)/([A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?$`)

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

func (a asker) pointer(v value) pointer {
	ref := text(v.json)
	if o, ok := v.json.(object); ok && v.typ == "Resource" {
		ref = str(o, "resourceType") + "/" + str(o, "id")
	} else if ok {
		ref = str(o, "reference")
	}
	bare := beforeHash(ref)
	url, version, versioned := strings.Cut(bare, "|")
	m := relative.FindStringSubmatch(bare)
	switch {
	case bare == "":
		return pointer{}
	case versioned && (strings.HasPrefix(bare, "urn:") || scheme.MatchString(bare)):
		return pointer{url: url, whole: withVersion(url, "|", version)}
	case strings.HasPrefix(bare, "urn:"):
		return pointer{url: bare}
	case m == nil && scheme.MatchString(bare):
		return pointer{url: bare}
	case m == nil:
		return pointer{url: ref}
	}
	t, known := a.reg.Type(m[2])
	switch {
	case m[1] == "" && known, known && m[1] == a.base:
		return pointer{key: plan.Key{Type: t, ID: m[3]}, version: m[4]}
	case scheme.MatchString(bare) && strings.Contains(strings.TrimSuffix(m[1], "/"), "://"):
		url := m[1] + m[2] + "/" + m[3]
		return pointer{url: url, whole: withVersion(url, "/_history/", m[4])}
	case scheme.MatchString(bare):
		return pointer{url: bare}
	}
	return pointer{url: ref}
}

func withVersion(url, mark, version string) string {
	if version == "" {
		return ""
	}
	return url + mark + version
}

func (to pointer) meets(v search.ReferenceValue) bool {
	if v.URL != "" {
		return to.url == v.URL || to.whole == v.URL
	}
	return slices.Contains(v.Keys, to.key) && (v.Version == "" || v.Version == to.version)
}

// layouts are the forms of dates, each with what it leaves open.
var layouts = []struct {
	layout string
	end    func(time.Time) time.Time
}{
	{"2006", func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
	{"2006-01", func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
	{"2006-01-02", func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
	{"2006-01-02T15:04Z07:00", func(t time.Time) time.Time { return t.Add(time.Minute) }},
	{"2006-01-02T15:04", func(t time.Time) time.Time { return t.Add(time.Minute) }},
	{"2006-01-02T15:04:05Z07:00", func(t time.Time) time.Time { return t.Add(time.Second) }},
	{"2006-01-02T15:04:05", func(t time.Time) time.Time { return t.Add(time.Second) }},
}

var fraction = regexp.MustCompile(`:\d\d\.\d+`)

// date is the interval [low, high) in milliseconds.
func date(v any) (low, high int64, ok bool) {
	s, _ := v.(string)
	for _, l := range layouts {
		t, err := time.Parse(l.layout, s)
		if err != nil {
			continue
		}
		if fraction.MatchString(s) { // Go reads a fraction that its layout does not name
			return t.UnixMilli(), t.UnixMilli() + 1, true
		}
		return t.UnixMilli(), l.end(t).UnixMilli(), true
	}
	return 0, 0, false
}

// interval: R4 3.1.1.4.7. Open ends are the least and the greatest number.
func interval(v value) (low, high int64, ok bool) {
	o, _ := v.json.(object)
	switch v.typ {
	case "date", "dateTime":
		return date(v.json)
	case "instant": // "always a fixed point"
		if low, high, ok = date(v.json); high-low <= 1000 {
			high = low + 1
		}
		return low, high, ok
	case "Period":
		low, high = math.MinInt64, math.MaxInt64
		if s, there := o["start"]; there {
			if low, _, ok = date(s); !ok {
				return 0, 0, false
			}
		}
		if e, there := o["end"]; there {
			if _, high, ok = date(e); !ok {
				return 0, 0, false
			}
		}
		return low, high, ok && low < high
	case "Timing":
		repeat, _ := o["repeat"].(object)
		low, high, ok = interval(value{repeat["boundsPeriod"], "Period"})
		for _, event := range each(o["event"], "dateTime") {
			l, h, good := date(event.json)
			if good && ok {
				low, high = min(low, l), max(high, h)
			} else if good {
				low, high, ok = l, h, true
			}
		}
	}
	return low, high, ok
}

// moment is a moment in milliseconds with all digits, or, after, what comes right
// behind it.
type moment struct {
	at    *big.Rat
	after bool
}

func (m moment) compare(o moment) int {
	switch c := m.at.Cmp(o.at); {
	case c != 0 || m.after == o.after:
		return c
	case m.after:
		return 1
	}
	return -1
}

// exactDate is date with all digits: a fraction is a moment without length.
func exactDate(v any) (low, high moment, ok bool) {
	l, h, ok := date(v)
	s, _ := v.(string)
	low, high = moment{at: new(big.Rat).SetInt64(l)}, moment{at: new(big.Rat).SetInt64(h)}
	if digits := fraction.FindString(s); digits != "" {
		part, _ := new(big.Rat).SetString("0" + digits[3:])
		second := l - ((l%1000)+1000)%1000
		low.at = part.Add(part.Mul(part, big.NewRat(1000, 1)), new(big.Rat).SetInt64(second))
		high = moment{low.at, true}
	}
	return low, high, ok
}

// exactInterval is interval with all digits; nil ends are open.
func exactInterval(v value) (low, high *moment) {
	o, _ := v.json.(object)
	ends := func(at any, first, last bool) {
		l, h, ok := exactDate(at)
		if first && ok && (low == nil || l.compare(*low) < 0) {
			low = &l
		}
		if last && ok && (high == nil || h.compare(*high) > 0) {
			high = &h
		}
	}
	switch v.typ {
	case "Period":
		ends(o["start"], true, false)
		ends(o["end"], false, true)
	case "Timing":
		repeat, _ := o["repeat"].(object)
		bounds := value{repeat["boundsPeriod"], "Period"}
		events := each(o["event"], "dateTime")
		_, _, bounded := interval(bounds)
		if bounded {
			low, high = exactInterval(bounds)
		}
		openLow, openHigh := bounded && low == nil, bounded && high == nil
		for _, event := range events {
			ends(event.json, !openLow, !openHigh)
		}
	default:
		ends(v.json, true, true)
		if v.typ == "instant" && low != nil && high.compare(moment{at: new(big.Rat).Add(low.at, big.NewRat(1000, 1))}) <= 0 {
			high = &moment{low.at, true}
		}
	}
	return low, high
}

// exactMeets is dateMeets with all digits.
func exactMeets(v value, wanted search.DateValue) bool {
	low, high := exactInterval(v)
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(19), nil)
	read := func(m fhir.Moment) moment {
		return moment{at: new(big.Rat).Add(new(big.Rat).SetInt64(m.Milli), new(big.Rat).SetFrac(new(big.Int).SetUint64(m.Beyond), unit))}
	}
	pl, ph := read(wanted.Exact.Low), read(wanted.Exact.High)
	lowTo := func(m moment) int { // how low compares with m
		if low == nil {
			return -1
		}
		return low.compare(m)
	}
	highTo := func(m moment) int {
		if high == nil {
			return 1
		}
		return high.compare(m)
	}
	contained := lowTo(pl) >= 0 && highTo(ph) <= 0
	switch wanted.Prefix {
	case search.Ne:
		return !contained
	case search.Gt:
		return highTo(ph) > 0
	case search.Lt:
		return lowTo(pl) < 0
	case search.Ge:
		return highTo(ph) > 0 || contained
	case search.Le:
		return lowTo(pl) < 0 || contained
	case search.Sa:
		return lowTo(ph) >= 0
	case search.Eb:
		return highTo(pl) <= 0
	case search.Overlaps:
		return lowTo(ph) < 0 && highTo(pl) > 0
	}
	return contained
}

// near is a tenth of the distance to now.
func near(at int64, now time.Time) int64 {
	d := at - now.UnixMilli()
	if d < 0 {
		d = -d
	}
	return d / 10
}

// dateMeets is R4 3.1.1.4.5 word by word.
func dateMeets(low, high int64, v search.DateValue, now time.Time) bool {
	contained := v.Low <= low && high <= v.High
	above, below := high > v.High, low < v.Low
	switch v.Prefix {
	case search.Ne:
		return !contained
	case search.Gt:
		return above
	case search.Lt:
		return below
	case search.Ge:
		return above || contained
	case search.Le:
		return below || contained
	case search.Sa:
		return low >= v.High
	case search.Eb:
		return high <= v.Low
	case search.Ap:
		return low < v.High+near(v.High, now) && high > v.Low-near(v.Low, now)
	case search.Overlaps:
		return low < v.High && high > v.Low
	}
	return contained
}

// instantMeets is the same for a moment of which R4 knows no length.
func instantMeets(at int64, v search.DateValue, now time.Time) bool {
	if v.Exact != nil && v.Prefix != search.Ap {
		return exactMeets(value{time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z"), "instant"}, v)
	}
	switch v.Prefix {
	case search.Ne:
		return at < v.Low || at >= v.High
	case search.Gt, search.Sa:
		return at >= v.High
	case search.Lt, search.Eb:
		return at < v.Low
	case search.Ge:
		return at >= v.Low
	case search.Le:
		return at < v.High
	case search.Ap:
		return at >= v.Low-near(v.Low, now) && at < v.High+near(v.High, now)
	}
	return v.Low <= at && at < v.High
}

// amount is a number's or a quantity's closed interval; an end that is not part
// of it is the number next to it.
func amount(v value) (low, high float64, ok bool) {
	o, _ := v.json.(object)
	switch {
	case v.typ == "Range":
		low, high = math.Inf(-1), math.Inf(1)
		l, _, lowOK := amount(value{o["low"], "Quantity"})
		_, h, highOK := amount(value{o["high"], "Quantity"})
		if lowOK {
			low = l
		}
		if highOK {
			high = h
		}
		return low, high, (lowOK || highOK) && low <= high
	case v.typ == "Money" || r4.IsA(v.typ, "Quantity"):
		f, ok := float(o["value"])
		switch str(o, "comparator") {
		case "<":
			return math.Inf(-1), math.Nextafter(f, math.Inf(-1)), ok
		case "<=":
			return math.Inf(-1), f, ok
		case ">":
			return math.Nextafter(f, math.Inf(1)), math.Inf(1), ok
		case ">=":
			return f, math.Inf(1), ok
		}
		return f, f, ok
	}
	f, ok := float(v.json)
	return f, f, ok
}

func float(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	return f, err == nil
}

// numberMeets is R4 3.1.1.4.6 and 3.1.1.4.5: eq and ne look at the value's
// precision, the others at the value itself.
func numberMeets(low, high float64, v search.NumberValue) bool {
	contained := v.Low <= low && high < v.High
	same := low == v.Value && high == v.Value
	switch v.Prefix {
	case search.Ne:
		return !contained
	case search.Gt:
		return high > v.Value
	case search.Lt:
		return low < v.Value
	case search.Ge:
		return high > v.Value || same
	case search.Le:
		return low < v.Value || same
	case search.Sa:
		return low > v.Value
	case search.Eb:
		return high < v.Value
	case search.Ap:
		return low <= v.ApproxHigh && high >= v.ApproxLow
	}
	return contained
}

// quantityMeets: R4 3.1.1.4.11. A Range's unit is that of its low end, or of the
// high one where there is no low.
func quantityMeets(v value, low, high float64, wanted search.QuantityValue) bool {
	o, _ := v.json.(object)
	if v.typ == "Range" {
		end, _ := o["low"].(object)
		if _, ok := float(end["value"]); !ok {
			end, _ = o["high"].(object)
		}
		o = end
	}
	system, code, unit := str(o, "system"), str(o, "code"), str(o, "unit")
	if v.typ == "Money" {
		system, code = "urn:iso:std:iso:4217", str(o, "currency")
	}
	if unitMeets(system, code, unit, wanted) && numberMeets(low, high, wanted.NumberValue) {
		return true
	}
	return system == ucumSystem && wanted.System == ucumSystem && convertedMeets(low, high, code, wanted)
}

func unitMeets(system, code, unit string, wanted search.QuantityValue) bool {
	switch {
	case !wanted.Unit:
		return true
	case wanted.System == "":
		return wanted.Code == code || wanted.Code == unit
	}
	return wanted.System == system && (wanted.Code == "" || wanted.Code == code)
}

const ucumSystem = "http://unitsofmeasure.org"

// convertedMeets compares in base units, unless the value is stated to more
// digits than these keep.
func convertedMeets(low, high float64, code string, wanted search.QuantityValue) bool {
	has, ok1 := ucum.Parse(code)
	asks, ok2 := ucum.Parse(wanted.Code)
	if !ok1 || !ok2 || has.Dimension() != asks.Dimension() {
		return false
	}
	v := wanted.NumberValue
	for _, n := range []*float64{&v.Value, &v.Low, &v.High, &v.ApproxLow, &v.ApproxHigh} {
		if *n, ok1 = asks.Base(*n); !ok1 {
			return false
		}
	}
	low, ok1 = has.Base(low)
	high, ok2 = has.Base(high)
	return ok1 && ok2 && v.Low < v.Value && v.Value < v.High && numberMeets(low, high, v)
}
