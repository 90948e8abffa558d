package storetest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// scriptText writes steps with their answers, as parseScript reads them.
func scriptText(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.do.String() + "\n")
		for _, line := range s.want {
			b.WriteString(strings.TrimRight(answerMark+" "+line, " ") + "\n")
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (c commitOps) String() string {
	if len(c.ops) == 1 {
		return c.ops[0].String()
	}
	return "commit" + blockText(c.ops)
}

func (r reindex) String() string { return "reindex" + blockText(r.ops) }

func blockText(ops []opText) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString("\n  " + op.String())
	}
	return b.String()
}

func (o opText) String() string {
	words := []string{[...]string{"put", "delete", "purge", "check"}[o.Kind]}
	if (o.Key != plan.Key{}) {
		words = append(words, wordOrQuoted(keyText(o.Key)))
	}
	for _, e := range o.Entries {
		words = append(words, paramNames[e.Param]+"="+valueText(e.Value))
	}
	if o.given {
		words = append(words, "body", strconv.Quote(string(o.Body)))
	}
	if o.pad > 0 {
		words = append(words, "pad", strconv.Itoa(o.pad))
	}
	if o.Tag > 0 {
		words = append(words, "tag", strconv.Itoa(int(o.Tag)))
	}
	for _, cond := range o.If {
		words = append(words, "if", conditionText(cond))
	}
	return strings.Join(words, " ")
}

func conditionText(c store.Condition) string {
	switch c.Kind {
	case store.AtVersion:
		return fmt.Sprintf("version %d", c.Version)
	case store.Exists:
		return "exists"
	case store.Absent:
		return "absent"
	case store.Never:
		return "never"
	}
	return "matches(" + armsText(c.Plan.Arms) + ")" + keysText(c.Keys)
}

// keysText writes keys with a space before each.
func keysText(keys []plan.Key) string {
	var b strings.Builder
	for _, key := range keys {
		b.WriteString(" " + wordOrQuoted(keyText(key)))
	}
	return b.String()
}

func wordOrQuoted(s string) string {
	if s != "" && s != "-" && !strings.HasPrefix(s, "@") && wordLength(s) == len(s) {
		return s
	}
	return strconv.Quote(s)
}

func valueText(v []byte) string {
	if key, ok := strings.CutPrefix(string(v), selfMark); ok {
		return "@" + key
	}
	if n := len(v); n > 8 && strings.Count(string(v), string(v[:1])) == n {
		return fmt.Sprintf("%s*%d", wordOrQuoted(string(v[:1])), n)
	}
	return wordOrQuoted(string(v))
}

func boundText(v []byte) string {
	if v == nil {
		return "-"
	}
	return valueText(v)
}

func durationText(d time.Duration) string {
	text := strings.Replace(d.String(), "µ", "u", 1) // words are ASCII
	if d < 0 {
		return text
	}
	return "+" + text
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return durationText(t.Sub(start))
}

func armsText(arms []plan.Arm) string {
	if len(arms) == 0 {
		return "none"
	}
	texts := make([]string, len(arms))
	for i, a := range arms {
		texts[i] = typeNames[a.Type]
		if a.Where != nil {
			texts[i] += ": " + nodeText(a.Where)
		}
	}
	return strings.Join(texts, ", ")
}

// bodyTest asks whether a body contains something; its name is as it is written.
func bodyTest(part []byte) plan.Test {
	return plan.Test{
		Name:  "body(" + valueText(part) + ")",
		Holds: func(_ plan.Key, body []byte) bool { return bytes.Contains(body, part) },
	}
}

func nodeText(node plan.Node) string {
	switch n := node.(type) {
	case nil:
		return "true"
	case plan.Term:
		return paramNames[n.Param] + "=" + valueText(n.Value)
	case plan.Range:
		return rangeText(n)
	case plan.Contains:
		return fmt.Sprintf("contains(%s, %s)", paramNames[n.Param], valueText(n.Part))
	case plan.Test:
		return n.Name
	case plan.Updated:
		return fmt.Sprintf("updated(%s, %s)", timeText(n.Low), timeText(n.High))
	case plan.Created:
		return fmt.Sprintf("created(%s, %s)", timeText(n.Low), timeText(n.High))
	case plan.IDs:
		quoted := make([]string, len(n.IDs))
		for i, id := range n.IDs {
			quoted[i] = wordOrQuoted(id)
		}
		return "ids(" + strings.Join(quoted, ", ") + ")"
	case plan.And:
		return "and(" + nodesText(n) + ")"
	case plan.Or:
		return "or(" + nodesText(n) + ")"
	case plan.Not:
		return "not(" + nodeText(n.Of) + ")"
	case plan.Chain:
		return fmt.Sprintf("chain(%s, %s)", paramsText(n.Params), armsText(n.To))
	case plan.Has:
		return fmt.Sprintf("has(%s, %s)", paramsText(n.Params), armsText(n.From))
	}
	return fmt.Sprintf("unknown(%T)", node)
}

func nodesText(nodes []plan.Node) string {
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = nodeText(n)
	}
	return strings.Join(texts, ", ")
}

func rangeText(r plan.Range) string {
	text := fmt.Sprintf("range(%s, %s, %s", paramNames[r.Param], boundText(r.Low), boundText(r.High))
	if r.Tail != nil {
		text += fmt.Sprintf(", %d, %s, %s", r.Tail.At, boundText(r.Tail.Low), boundText(r.Tail.High))
	}
	return text + ")"
}

func paramsText(params []plan.Param) string {
	texts := make([]string, len(params))
	for i, p := range params {
		texts[i] = paramNames[p]
	}
	return strings.Join(texts, "&")
}

func (c moveClock) String() string { return "clock " + durationText(c.by) }
func (m mark) String() string      { return "mark " + m.moment }
func (reopen) String() string      { return "reopen" }
func (p partAct) String() string   { return p.verb + " " + p.name }

func (a add) String() string {
	return fmt.Sprintf("add %s %s", a.part, wordOrQuoted(a.cursor)) + blockText(a.ops)
}

func (g get) String() string {
	text := "get " + wordOrQuoted(keyText(g.key))
	if g.version > 0 {
		text += fmt.Sprintf(" v%d", g.version)
	}
	if g.at != "" {
		text += " at " + g.at
	}
	return text
}

func (s search) String() string {
	text := "search "
	if s.count {
		text = "count "
	}
	text += armsText(s.plan.Arms)
	if len(s.plan.Sort) > 0 {
		text += " | sort " + sortsText(s.plan.Sort)
	}
	if s.plan.Limit != defaultLimit {
		text += fmt.Sprintf(" | limit %d", s.plan.Limit)
	}
	if s.plan.Work > 0 {
		text += fmt.Sprintf(" | work %d", s.plan.Work)
	}
	if s.plan.Total != plan.TotalNone {
		text += " | total " + inverse(totalModes)[s.plan.Total]
	}
	return text + s.paging.text()
}

func sortsText(sorts []plan.Sort) string {
	texts := make([]string, len(sorts))
	for i, s := range sorts {
		if s.Desc {
			texts[i] = "-"
		}
		if s.By == plan.ByParam {
			texts[i] += paramsText(s.Params)
		} else {
			texts[i] += inverse(sortWords)[s.By]
		}
	}
	return strings.Join(texts, ", ")
}

func (g paging) text() string {
	var text string
	for _, clause := range []struct{ name, value string }{{"at", g.at}, {"after", g.after}, {"next", g.next}} {
		if clause.value != "" {
			text += " | " + clause.name + " " + clause.value
		}
	}
	if g.full {
		text += " | full"
	}
	if g.walk {
		text += " | walk"
	}
	return text
}

func (h history) String() string {
	q := h.query
	text := "history all"
	switch {
	case q.Key.ID != "":
		text = "history " + wordOrQuoted(keyText(q.Key))
	case q.Types != nil:
		names := make([]string, len(q.Types))
		for i, number := range q.Types {
			names[i] = typeNames[number]
		}
		text = "history types " + strings.Join(names, ", ")
	}
	if !q.Low.IsZero() || !q.High.IsZero() {
		text += fmt.Sprintf(" | between %s, %s", timeText(q.Low), timeText(q.High))
	}
	if !q.AtLow.IsZero() || !q.AtHigh.IsZero() {
		text += fmt.Sprintf(" | during %s, %s", timeText(q.AtLow), timeText(q.AtHigh))
	}
	if q.Where != nil {
		text += " | where " + armsText(q.Where)
	}
	if q.OldestFirst {
		text += " | oldest"
	}
	if q.Limit != defaultLimit {
		text += fmt.Sprintf(" | limit %d", q.Limit)
	}
	if q.Total {
		text += " | total"
	}
	return text + h.paging.text()
}

func (f follow) String() string {
	text := "follow"
	if f.after != "" {
		text += " after " + f.after
	}
	if f.keep != "" {
		text += fmt.Sprintf(" | keep %d %s", f.keepNth, f.keep)
	}
	if f.commits {
		text += " | commits"
	}
	return text
}
