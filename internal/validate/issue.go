package validate

import (
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// The codes of issues (http://hl7.org/fhir/R4/valueset-issue-type.html).
const (
	codeStructure = "structure"     // members, arrays and objects
	codeRequired  = "required"      // an element is missing
	codeValue     = "value"         // a value against its format or target
	codeBinding   = "code-invalid"  // a code outside its value set
	codeInvariant = "invariant"     // a constraint
	codeInform    = "informational" // not checked, and why
	codeTooMany   = "too-costly"    // the list was cut
)

// fail notes an error; at Minimal it is a warning.
func (w *walk) fail(at fhir.Node, code, format string, args ...any) {
	severity := fault.SeverityError
	if w.level == Minimal {
		if at == w.refused && at.Exists() {
			return // refuse has said it
		}
		severity = fault.SeverityWarning
	}
	w.note(severity, at, code, format, args...)
}

// refuse notes an error at every level.
func (w *walk) refuse(at fhir.Node, code, format string, args ...any) {
	w.note(fault.SeverityError, at, code, format, args...)
}

func (w *walk) note(severity fault.Severity, at fhir.Node, code, format string, args ...any) {
	if severity <= fault.SeverityFatal {
		w.errors++
	}
	if len(w.issues) >= MaxIssues-1 {
		w.cut(severity)
		return
	}
	line, col := at.Position()
	w.issues = append(w.issues, fault.Issue{
		Severity: severity, Kind: fault.Invalid, Code: code, Detail: fmt.Sprintf(format, args...),
		Expression: at.Path(), Line: line, Col: col,
	})
}

// cut ends the list with an issue that says so. It is an error where one that
// was left out is: a cut list must not read as harmless.
func (w *walk) cut(severity fault.Severity) {
	if len(w.issues) < MaxIssues {
		w.issues = append(w.issues, fault.Issue{
			Severity: severity, Kind: fault.Invalid, Code: codeTooMany,
			Detail: fmt.Sprintf("More than %d issues; the others are left out", MaxIssues-1),
		})
	}
	if last := &w.issues[MaxIssues-1]; severity < last.Severity {
		last.Severity = severity
	}
}

// full reports whether going on could not change the list any more.
func (w *walk) full() bool {
	return len(w.issues) == MaxIssues && (w.level == Minimal || w.issues[MaxIssues-1].Severity <= fault.SeverityFatal)
}

// maxQuoted bounds what an issue repeats of a value, in bytes.
const maxQuoted = 80

// quote is a value's text for an issue, shortened at a character's border.
// Control characters do not go out with it.
func quote(text []byte) string {
	rest := ""
	if len(text) > maxQuoted {
		end := maxQuoted
		for end > 0 && text[end]&0xc0 == 0x80 {
			end--
		}
		text, rest = text[:end], "…"
	}
	return strings.Map(printable, string(text)) + rest
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// a names a JSON kind with its article, as HealthLake's messages do.
func a(kind fhir.Kind) string {
	switch kind {
	case fhir.Object:
		return "an Object"
	case fhir.Array:
		return "an Array"
	case fhir.Null:
		return "null"
	}
	return "a " + kind.String()
}
