package patch

import (
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// pointer is a JSON Pointer (RFC 6901) as decoded steps; none is the root.
type pointer []string

func readPointer(n fhir.Node) (p pointer, wrong string) {
	if n.Kind() != fhir.String {
		return nil, "is missing or no string"
	}
	text := n.Text()
	if text == "" {
		return pointer{}, ""
	}
	if text[0] != '/' {
		return nil, "does not begin with a slash"
	}
	for step := range strings.SplitSeq(text[1:], "/") {
		if badTilde(step) {
			return nil, "has a ~ that is neither ~0 nor ~1"
		}
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		if p = append(p, step); len(p) > maxSteps {
			return nil, "is too deep"
		}
	}
	return p, ""
}

func badTilde(step string) bool {
	for i := 0; i < len(step); i++ {
		if step[i] == '~' && (i+1 == len(step) || step[i+1] != '0' && step[i+1] != '1') {
			return true
		}
	}
	return false
}

// within reports whether p lies below (not at) q.
func (p pointer) within(q pointer) bool {
	if len(p) <= len(q) {
		return false
	}
	for i := range q {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

// index reads an array index (RFC 6901 section 4: no leading zeros) below n; "-"
// is n itself, the place behind the last item.
func index(step string, n int) (int, bool) {
	if step == "-" {
		return n, true
	}
	i, err := strconv.Atoi(step)
	return i, err == nil && i >= 0 && i <= n && strconv.Itoa(i) == step
}
