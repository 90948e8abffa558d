package storetest

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

//go:embed testdata/*.test
var exampleFiles embed.FS

// ownExamples is where an engine keeps examples of its own, from its package's
// folder: those that the differential test found, above all.
const ownExamples = "testdata/storetest"

// scenarioMark begins a scenario: a script on a fresh store.
const scenarioMark = "=== "

// scenario is one script of a file.
type scenario struct {
	name  string
	steps []step
}

// examples runs every scenario of every file.
func (x *exam) examples(t *testing.T) {
	x.exampleDir(t, exampleFiles, "testdata")
	if _, err := os.Stat(ownExamples); err == nil {
		x.exampleDir(t, os.DirFS(filepath.Dir(ownExamples)), path.Base(ownExamples))
	}
}

func (x *exam) exampleDir(t *testing.T, files fs.FS, dir string) {
	names, err := fs.Glob(files, dir+"/*.test")
	mustNot(t, "Glob", err)
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		mustNot(t, "ReadFile", err)
		file := "examples/" + strings.TrimSuffix(path.Base(name), ".test")
		x.run(t, file, func(t *testing.T) {
			scenarios, err := parseScenarios(string(text))
			mustNot(t, name, err)
			for _, s := range scenarios {
				x.run(t, file+"/"+strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
					runExample(t, x.open, path.Base(name), s)
				})
			}
		})
	}
}

// parseScenarios splits a file at its scenario marks and reads the scripts.
func parseScenarios(text string) ([]scenario, error) {
	var scenarios []scenario
	line := 0
	for i, piece := range strings.Split("\n"+text, "\n"+scenarioMark) {
		title, script, _ := strings.Cut(piece, "\n")
		if i == 0 {
			line += strings.Count(piece, "\n")
			continue // the file's own comment
		}
		steps, err := parseScript(script)
		if err == nil {
			err = checkAnswers(steps)
		}
		if err != nil {
			return nil, fmt.Errorf("scenario %q (line numbers count from its title): %w", title, err)
		}
		for j := range steps {
			steps[j].line += line + 1
		}
		scenarios = append(scenarios, scenario{name: strings.TrimSpace(title), steps: steps})
		line += strings.Count(piece, "\n") + 1
	}
	if len(scenarios) == 0 {
		return nil, fmt.Errorf("no scenario: a line that begins with %q begins one", scenarioMark)
	}
	return scenarios, nil
}

func runExample(t *testing.T, open Opener, file string, s scenario) {
	m := newMachine(t, open)
	for _, step := range s.steps {
		if got := step.do.run(m); !step.accepts(got) {
			t.Fatalf("%s:%d: %s\ngot:\n%s\nwant:\n%s", file, step.line, step.do, indented(got), indented(step.want))
		}
	}
}

// accepts reports whether an answer is the one that is due: where a script
// gives none, any but a failure.
func (s step) accepts(got []string) bool {
	if s.want == nil {
		return !slices.ContainsFunc(got, isTrouble)
	}
	return slices.Equal(got, s.want)
}

// isTrouble reports whether a line tells a failure.
func isTrouble(line string) bool {
	return strings.HasPrefix(line, "error") || strings.HasPrefix(line, "unmet") || strings.Contains(line, "BROKEN")
}

func indented(lines []string) string {
	if len(lines) == 0 {
		return "    (success)"
	}
	return "    " + strings.Join(lines, "\n    ")
}
