package validate

import (
	"bytes"
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

var update = flag.Bool("update", false, "write the expected issues anew")

const rulesFile = "testdata/rules.test"

// ruleCase is one case of testdata/rules.test.
type ruleCase struct {
	name, level, resource string
	want                  []string
}

func readRules(t testing.TB) (head string, cases []ruleCase) {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n== ")
	for _, part := range parts[1:] {
		title, body, _ := strings.Cut(part, "\n")
		resource, issues, found := strings.Cut(body, "\n----\n")
		if !found {
			t.Fatalf("%s: no dashes", title)
		}
		name, level, _ := strings.Cut(title, " | ")
		if level == "" {
			level = "structure-only"
		}
		c := ruleCase{name: name, level: level, resource: resource}
		if issues = strings.TrimSpace(issues); issues != "" {
			c.want = strings.Split(issues, "\n")
		}
		cases = append(cases, c)
	}
	return parts[0], cases
}

// Each rule is found, at its place, and nothing else is.
func TestRules(t *testing.T) {
	head, cases := readRules(t)
	v := New(Options{})
	var out bytes.Buffer
	out.WriteString(head)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			level, err := ParseLevel(c.level)
			if err != nil {
				t.Fatal(err)
			}
			got := issueLines(t, v, c.resource, level)
			if !*update && strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			writeRule(&out, c, got)
		})
	}
	if *update {
		if err := os.WriteFile(rulesFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func writeRule(out *bytes.Buffer, c ruleCase, issues []string) {
	out.WriteString("\n== " + c.name)
	if c.level != "structure-only" {
		out.WriteString(" | " + c.level)
	}
	out.WriteString("\n" + c.resource + "\n----\n")
	for _, issue := range issues {
		out.WriteString(issue + "\n")
	}
}

func issueLines(t testing.TB, v *Validator, resource string, level Level) []string {
	t.Helper()
	d, err := fhir.Parse([]byte(resource))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, i := range v.Validate(context.Background(), d.Root(), level) {
		lines = append(lines, strings.ReplaceAll(line(i), "\n", " "))
	}
	return lines
}
