package storetest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the twin's answers into testdata/*.test, to be read before they are committed")

// TestUpdate writes the examples' answers anew when asked to.
func TestUpdate(t *testing.T) {
	if !*update {
		t.Skip("runs with -update")
	}
	files, err := filepath.Glob("testdata/*.test")
	mustNot(t, "Glob", err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		mustNot(t, "ReadFile", err)
		mustNot(t, "WriteFile", os.WriteFile(name, []byte(answered(t, name, string(text))), 0o644))
	}
}

// answered is a file with the twin's answers in the place of those it has.
func answered(t *testing.T, name, text string) string {
	var out strings.Builder
	head, rest, _ := strings.Cut("\n"+text, "\n"+scenarioMark)
	out.WriteString(strings.TrimPrefix(head, "\n"))
	for _, piece := range strings.Split(rest, "\n"+scenarioMark) {
		title, script, _ := strings.Cut(piece, "\n")
		steps, err := parseScript(script)
		mustNot(t, name, err)
		out.WriteString("\n" + scenarioMark + title + "\n" + answeredScript(newMachine(t, Twin), script, steps))
	}
	return strings.TrimPrefix(strings.TrimRight(out.String(), "\n")+"\n", "\n")
}

func answeredScript(m *machine, script string, steps []step) string {
	var out strings.Builder
	lines := strings.Split(script, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], answerMark) {
			continue
		}
		out.WriteString(lines[i] + "\n")
		if len(steps) == 0 || steps[0].line != i+1 {
			continue
		}
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
			i++
			out.WriteString(lines[i] + "\n")
		}
		if got := steps[0].do.run(m); steps[0].want != nil || asksAnswer(steps[0].do) {
			for _, line := range got {
				out.WriteString(strings.TrimRight(answerMark+" "+line, " ") + "\n")
			}
		}
		steps = steps[1:]
	}
	return strings.TrimSuffix(out.String(), "\n")
}
