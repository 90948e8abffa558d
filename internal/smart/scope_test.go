package smart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

var (
	v2 = []string{"permission-v2"}
	v3 = []string{"permission-v2", "permission-v2.2"}
)

// letters writes an access as cruds.
func letters(a search.Access) string {
	var b strings.Builder
	for _, c := range "cruds" {
		if a&accessOf[byte(c)] != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// Which forms count depends on strategy and capabilities; a form that does not
// count grants nothing and is reported, and a filter is never just dropped.
func TestScopesByStrategy(t *testing.T) {
	settings := []Features{
		FeaturesOf(V1Only, v3), // capabilities change nothing there
		FeaturesOf(All, nil),
		FeaturesOf(All, []string{"permission-v2.2"}), // needs permission-v2
		FeaturesOf(All, v2),
		FeaturesOf(All, v3),
		FeaturesOf("AWS_AUTH", v3),
	}
	const no = "-"
	tests := []struct {
		scope string
		want  [6]string // per setting
	}{
		{"patient/Observation.read", same("patient Observation rs")},
		{"user/Observation.write", same("user Observation cud")},
		{"system/*.*", same("system * cruds")},
		{"patient/*.read", same("patient * rs")},
		{"patient/Observation.rs", [6]string{no, no, no, "patient Observation rs", "patient Observation rs", no}},
		{"user/*.cruds", [6]string{no, no, no, "user * cruds", "user * cruds", no}},
		{"system/Patient.s", [6]string{no, no, no, "system Patient s", "system Patient s", no}},
		{"patient/Observation.rs?category=laboratory", [6]string{no, no, no, no, "patient Observation rs category=laboratory", no}},
		{"patient/Observation.rs?category=http%3A%2F%2Fx%7Claboratory&status=final",
			[6]string{no, no, no, no, "patient Observation rs category=http://x|laboratory status=final", no}},
		{"patient/Observation.read?category=laboratory", same(no)},
		{"patient/*.rs?_lastUpdated=gt2020", same(no)},
		{"patient/Observation.rs?", same(no)},
		{"patient/Observation.rs?category=%zz", same(no)},
		{"patient/Observation.rs?&&", same(no)},
		{"patient/Observation.sr", same(no)},
		{"patient/Observation.rr", same(no)},
		{"patient/Observation.", same(no)},
		{"patient/Observation", same(no)},
		{"patient/.read", same(no)},
		{"patient/Observation.READ", same(no)},
		{"patient/Observation.read.write", same(no)},
		{"patient/observation.read", same(no)},
		{"patient/Observation,Condition.read", same(no)},
		{"patient/**.read", same(no)},
		{"patient/../Patient.read", same(no)},
		{"patient/", same(no)},
	}
	for _, tt := range tests {
		for i, f := range settings {
			got, err := ParseScopes(tt.scope, f)
			if err != nil || show(got) != tt.want[i] {
				t.Errorf("%s under %+v: got %s, %v, want %s", tt.scope, f, show(got), err, tt.want[i])
			}
		}
	}
}

func same(s string) (all [6]string) {
	for i := range all {
		all[i] = s
	}
	return all
}

func show(s Scopes) string {
	if len(s.Resources) == 0 {
		if len(s.Refused) == 1 && s.Refused[0].Reason != "" {
			return "-"
		}
		return fmt.Sprintf("%+v", s)
	}
	one := s.Resources[0]
	text := one.Context.String() + " " + one.Type + " " + letters(one.Access)
	for _, p := range one.Filter {
		text += " " + p.Name + "=" + p.Value
	}
	return text
}

// What is not about resources is neither granted nor refused.
func TestOtherScopes(t *testing.T) {
	const text = "launch launch/patient launch/encounter openid fhirUser profile offline_access online_access email Patient/x.read patients/Observation.read"
	got, err := ParseScopes("  "+text+" launch  patient/Patient.read patient/Patient.read ", FeaturesOf(All, v3))
	if err != nil || !slices.Equal(got.Others, strings.Fields(text)) || len(got.Resources) != 1 || len(got.Refused) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestScopeBounds(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "x%d ", i)
		}
		return b.String()
	}
	for text, ok := range map[string]bool{
		many(MaxScopes): true, many(MaxScopes + 1): false,
		strings.Repeat("x", MaxScopeBytes): true, strings.Repeat("x", MaxScopeBytes+1): false,
	} {
		if _, err := ParseScopes(text, Features{}); ok != (err == nil) || !ok && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	pairs := strings.Repeat("&status=final", MaxFilterPairs+1)[1:]
	got, err := ParseScopes("patient/Observation.rs?"+pairs, FeaturesOf(All, v3))
	if err != nil || len(got.Refused) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Whatever comes in, what is granted is of the documented forms, and reads the
// same again.
func FuzzParseScopes(f *testing.F) {
	f.Add("patient/Observation.rs?category=laboratory&status=final openid")
	f.Add("user/*.cruds system/Patient.read patient/x.y launch/patient")
	f.Add("patient/Observation.rs?code=http%3A%2F%2Floinc.org%7C1-8&a=b?c patient//.read")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseScopes(text, Features{V2: true, Filters: true})
		if err != nil {
			return
		}
		for _, s := range got.Resources {
			if s.Access == 0 || s.Access&^search.AllAccess != 0 || s.Type == "" || s.Type == AnyType && len(s.Filter) > 0 {
				t.Fatalf("%q gives %+v", text, s)
			}
			if strings.Contains(s.Text, "?") != (len(s.Filter) > 0) {
				t.Fatalf("a filter was dropped: %+v", s)
			}
			again, err := ParseScopes(s.Text, Features{V2: true, Filters: true})
			if err != nil || len(again.Resources) != 1 || again.Resources[0].Access != s.Access {
				t.Fatalf("%q reads as %+v the second time", s.Text, again)
			}
		}
		for _, r := range got.Refused {
			if r.Reason == "" {
				t.Fatalf("%q is refused without a reason", r.Scope)
			}
		}
	})
}
