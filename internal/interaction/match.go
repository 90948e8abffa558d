package interaction

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Match is the version condition of a write (R4 http.html#concurrency).
type Match struct {
	Version uint64 // If-Match: W/"n"; 0 is no condition
	Exists  bool   // If-Match: *
	Absent  bool   // If-None-Match: *
}

// ParseMatch reads If-Match and If-None-Match of a write; empty texts are no
// condition. A tag that is well formed but can be no version of ours fails as a
// precondition, anything else as fault.Invalid.
func ParseMatch(ifMatch, ifNoneMatch string) (Match, error) {
	var m Match
	switch strings.TrimSpace(ifNoneMatch) {
	case "":
	case "*":
		m.Absent = true
	default:
		return m, &fault.Error{Kind: fault.Invalid, Op: "interaction.ParseMatch", Subject: "If-None-Match", Detail: "a write takes only *"}
	}
	switch tag := strings.TrimSpace(ifMatch); tag {
	case "":
	case "*":
		m.Exists = true
	default:
		n, err := ParseETag(tag)
		if err != nil {
			return m, err
		}
		m.Version = n
	}
	return m, nil
}

// ParseETag reads W/"n" (and "n", and bare n) as a version. Another tag is no
// version's: fault.Precondition; text that is no tag: fault.Invalid.
func ParseETag(tag string) (uint64, error) {
	text := strings.TrimPrefix(strings.TrimSpace(tag), "W/")
	bare := strings.Trim(text, `"`)
	if n, ok := parseVersion(bare); ok && (text == bare || text == `"`+bare+`"`) {
		return n, nil
	}
	if len(text) > 2 && text[0] == '"' && strings.IndexByte(text[1:], '"') == len(text)-2 {
		return 0, &fault.Error{Kind: fault.Precondition, Op: "interaction.ParseETag", Subject: cutText(tag), Detail: "no version has this tag"}
	}
	return 0, &fault.Error{Kind: fault.Invalid, Op: "interaction.ParseETag", Subject: cutText(tag), Detail: "not one version tag", Hint: `write W/"1"`}
}

// maxEcho is how much of a client's text a message repeats, in bytes.
const maxEcho = 100

func cutText(s string) string {
	if len(s) > maxEcho {
		return s[:maxEcho] + "…"
	}
	return s
}

func (m Match) conditions() []store.Condition {
	var all []store.Condition
	if m.Version > 0 {
		all = append(all, store.Condition{Kind: store.AtVersion, Version: m.Version})
	}
	if m.Exists {
		all = append(all, store.Condition{Kind: store.Exists})
	}
	if m.Absent {
		// A deleted id stays taken, as in HealthLake.
		all = append(all, store.Condition{Kind: store.Never})
	}
	return all
}

// matchFault turns a failed version condition into 412. The *store.Unmet is not
// kept as its cause: that would read as "try again".
func matchFault(err error) error {
	failed, ok := unmet(err)
	if !ok {
		return err
	}
	e := &fault.Error{Kind: fault.Precondition, Op: "interaction"}
	switch {
	case failed.Current == 0:
		e.Detail = "there is no current version"
	case failed.Deleted:
		e.Detail = "the resource was deleted"
	default:
		e.Detail = `the current version is W/"` + formatVersion(failed.Current) + `"`
	}
	return e
}
