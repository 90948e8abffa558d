package fhir

import (
	"fmt"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// OutcomeIssue is one OperationOutcome.issue. Severity and Code are required
// (R4 operationoutcome.html); empty ones become error and processing.
type OutcomeIssue struct {
	Severity    string // fatal, error, warning, information
	Code        string // of the value set issue-type
	Diagnostics string
	Location    string // "line 3, column 14"
	Expression  string // FHIRPath
}

// AppendOutcome appends an OperationOutcome with these issues. Without any it
// gets one that says all is well, because FHIR asks for at least one.
func AppendOutcome(dst []byte, issues ...OutcomeIssue) []byte {
	if len(issues) == 0 {
		issues = []OutcomeIssue{{Severity: "information", Code: "informational", Diagnostics: "All OK"}}
	}
	dst = append(dst, `{"resourceType":"OperationOutcome","issue":[`...)
	for k, issue := range issues {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = issue.append(dst)
	}
	return append(dst, ']', '}')
}

func (o OutcomeIssue) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "severity", orElse(o.Severity, "error"))
	dst = appendText(dst, "code", orElse(o.Code, "processing"))
	dst = appendText(dst, "diagnostics", o.Diagnostics)
	dst = appendList(dst, "location", o.Location)
	dst = appendList(dst, "expression", o.Expression)
	return append(dst, '}')
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func appendList(dst []byte, name, only string) []byte {
	if only == "" {
		return dst
	}
	dst = append(appendMember(dst, name), '[')
	return append(AppendString(dst, only), ']')
}

// Outcome is the OperationOutcome of an error: an issue for each of its places,
// or one for the error itself when it names none. The hint goes with the first.
// A nil error is an outcome without complaints.
func Outcome(e *fault.Error) []byte { return AppendOutcome(nil, OutcomeIssues(e)...) }

// OutcomeIssues is what Outcome lists.
func OutcomeIssues(e *fault.Error) []OutcomeIssue {
	if e == nil {
		return nil
	}
	if len(e.Place) == 0 {
		severity := fault.SeverityError
		if e.Kind == fault.Internal {
			severity = fault.SeverityFatal
		}
		return []OutcomeIssue{{
			Severity: severity.String(), Code: e.Kind.Row().IssueCode, Diagnostics: e.Message(),
		}}
	}
	issues := make([]OutcomeIssue, 0, len(e.Place))
	for _, p := range e.Place {
		issues = append(issues, placeIssue(e.Kind, p))
	}
	if e.Hint != "" {
		issues[0].Diagnostics += ". " + e.Hint
	}
	return issues
}

// placeIssue: a place without a kind of its own has its error's.
func placeIssue(kind fault.Kind, p fault.Issue) OutcomeIssue {
	if p.Kind != fault.Internal {
		kind = p.Kind
	}
	issue := OutcomeIssue{
		Severity:    p.Severity.String(),
		Code:        orElse(p.Code, kind.Row().IssueCode),
		Diagnostics: orElse(p.Detail, kind.Row().Sentence),
		Expression:  p.Expression,
	}
	if p.Line > 0 {
		issue.Location = "line " + strconv.Itoa(p.Line) + ", column " + strconv.Itoa(p.Col)
		issue.Diagnostics = fmt.Sprintf("%s at %s", issue.Diagnostics, issue.Location)
	}
	return issue
}
