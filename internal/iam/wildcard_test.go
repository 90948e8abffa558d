package iam

import (
	"strings"
	"testing"
)

// plainMatch is the obvious matcher: every way, recursively.
func plainMatch(g glob, s []rune) bool {
	if len(g) == 0 {
		return len(s) == 0
	}
	if isRun(g[0]) {
		if plainMatch(g[1:], s) {
			return true
		}
		return len(s) > 0 && !(g[0] == anyRunField && s[0] == ':') && plainMatch(g, s[1:])
	}
	return len(s) > 0 && one(g[0], s[0]) && plainMatch(g[1:], s[1:])
}

func TestGlob(t *testing.T) {
	const store = "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0b7c"
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true},
		{"*", "*", true},
		{"", "", true},
		{"", "x", false},
		{"?", "", false},
		{"?", "é", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-b-b-d", false},
		{"a**c", "abc", true},
		{"*a*a*a*b", strings.Repeat("a", 200), false},
		{"arn:aws:healthlake:*:*:datastore/fhir/*", store, true},
		{"arn:aws:healthlake:us-*:111122223333:datastore/*", store, true},
		{"arn:aws:healthlake:*", store, true},
		{"arn:aws:*", store, true},
		{"arn:aws:healthlake:us-east-?:*:datastore/fhir/0b7?", store, true},
		{"arn:aws:healthlake:us-east-1?111122223333:datastore/fhir/0b7c", store, false}, // ? stays in its field
		{"arn:aws:health*1:111122223333:datastore/fhir/0b7c", store, false},             // so does * inside a field
		{"arn:aws:healthlake:us-*:datastore/fhir/0b7c", store, true},                    // * at a field's end does not
		{"arn:aws:s3:::b/*", "arn:aws:s3:::b/x:y:z", true},
		{"arn:aws:s3:::b/*z", "arn:aws:s3:::b/x:y:z", true}, // the resource field has colons of its own
	} {
		if got := newGlob(c.pattern).withinFields(true).match(c.text); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestGlobLiteralAsterisk(t *testing.T) {
	g := append(literal("a*"), newGlob("?*")...)
	for text, want := range map[string]bool{"a*x": true, "a*xyz": true, "abx": false, "a*": false} {
		if g.match(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestGlobConditionARN(t *testing.T) {
	g := newGlob("arn:aws:healthlake:*:111122223333:*").withinFields(false)
	for text, want := range map[string]bool{
		"arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0b7c": true,
		"arn:aws:healthlake:us-east-1:x:111122223333:datastore":         false,
	} {
		if g.match(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"a*b?c", "axxbyc"}, {"a:*b:*c", "a:b:b:c"}, {"*:?*:*", "::::"}, {"*a:*b*:c", "aa:b:b:c"}, {"?*?:**?", "x:y:z"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 24 { // the plain one takes exponential time
			return
		}
		for _, g := range []glob{newGlob(pattern), newGlob(pattern).withinFields(true), newGlob(pattern).withinFields(false), newGlob(pattern).fold()} {
			if got, want := g.match(text), plainMatch(g, []rune(text)); got != want {
				t.Fatalf("%q (%v) on %q: %v, plainly %v", pattern, g, text, got, want)
			}
		}
	})
}
