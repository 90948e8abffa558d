package validate

import (
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// line is an issue in one line, as the testdata has it.
func line(i fault.Issue) string {
	return fmt.Sprintf("%s %s %s %d:%d %s", i.Severity, i.Code, i.Expression, i.Line, i.Col, i.Detail)
}
