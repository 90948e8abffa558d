package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Bounds of the language, so that broken scripts fail instead of hanging.
const (
	maxNesting   = 100     // conditions inside conditions
	maxRepeat    = 1 << 20 // of "x"*n and pad n, in bytes
	defaultLimit = 100     // records of a page, where a script says nothing
)

// answerMark begins a line of an answer.
const answerMark = "->"

// parseScript reads a script: testdata/README.md describes the language.
func parseScript(text string) ([]step, error) {
	var steps []step
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], " \t\r")
		switch answer, isAnswer := strings.CutPrefix(line, answerMark); {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
		case isAnswer && len(steps) == 0:
			return nil, fmt.Errorf("line %d: an answer to nothing", i+1)
		case isAnswer:
			last := &steps[len(steps)-1]
			last.want = append(last.want, strings.TrimPrefix(answer, " "))
		default:
			begin := i
			var block []string
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
				i++
				block = append(block, lines[i])
			}
			do, err := parseAction(line, block)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", begin+1, err)
			}
			steps = append(steps, step{line: begin + 1, do: do})
		}
	}
	return steps, nil
}

// parser reads the tokens of one line. After the first error it reads nothing
// more, and err keeps that error.
type parser struct {
	tokens []token
	err    error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
		p.tokens = nil
	}
}

func (p *parser) peek() token {
	if len(p.tokens) == 0 {
		return token{}
	}
	return p.tokens[0]
}

func (p *parser) next() token {
	t := p.peek()
	if len(p.tokens) > 0 {
		p.tokens = p.tokens[1:]
	}
	return t
}

// take reads one punctuation mark, if it is there.
func (p *parser) take(mark byte) bool {
	if p.peek().kind != mark {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(mark byte) {
	if !p.take(mark) {
		p.fail("%q expected before %q", string(mark), p.peek().text)
	}
}

// takeWord reads this word, if it is there.
func (p *parser) takeWord(word string) bool {
	if p.peek() != (token{'w', word}) {
		return false
	}
	p.next()
	return true
}

func (p *parser) word() string {
	t := p.next()
	if t.kind != 'w' {
		p.fail("a word expected, not %q", t.text)
	}
	return t.text
}

func (p *parser) number(most uint64) uint64 {
	word := p.word()
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil || n > most {
		p.fail("a number up to %d expected, not %q", most, word)
	}
	return n
}

func (p *parser) end() error {
	if p.err == nil && len(p.tokens) > 0 {
		p.fail("too much: %q", p.peek().text)
	}
	return p.err
}

// parseAction reads a statement: its line, and the indented lines under it.
func parseAction(line string, block []string) (action, error) {
	tokens, err := tokenize(line)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	verb := p.word()
	var do action
	switch verb {
	case "put", "delete", "purge", "check":
		p.tokens = tokens
		do = commitOps{[]opText{p.op()}}
	case "commit":
		do = commitOps{p.ops(&block)}
	case "reindex":
		do = p.reindex(&block)
	case "add":
		do = add{part: p.word(), cursor: p.text(), ops: p.ops(&block)}
	default:
		do = p.query(verb)
	}
	if len(block) > 0 {
		p.fail("indented lines belong under commit, reindex or add")
	}
	return do, p.end()
}

// query reads the statements of one line that write nothing.
func (p *parser) query(verb string) action {
	switch verb {
	case "clock":
		return moveClock{p.duration()}
	case "mark":
		return mark{p.word()}
	case "get":
		return p.get()
	case "search", "count":
		return p.search(verb == "count")
	case "history":
		return p.history()
	case "follow":
		return p.follow()
	case "reopen":
		return reopen{}
	case "flush", "cursor", "close", "forget":
		return partAct{verb, p.word()}
	}
	p.fail("no such statement: %q", verb)
	return nil
}

// ops reads a block: one op a line.
func (p *parser) ops(block *[]string) []opText {
	var ops []opText
	for _, line := range *block {
		tokens, err := tokenize(line)
		inner := &parser{tokens: tokens, err: err}
		op := inner.op()
		if err := inner.end(); err != nil {
			p.fail("%q: %w", strings.TrimSpace(line), err)
		}
		ops = append(ops, op)
	}
	*block = nil
	return ops
}

// reindex reads a block of "put KEY name=value … if version N".
func (p *parser) reindex(block *[]string) action {
	ops := p.ops(block)
	for _, op := range ops {
		if op.Kind != store.Put || len(op.If) != 1 || op.If[0].Kind != store.AtVersion || op.given || op.pad > 0 || op.Tag > 0 {
			p.fail("reindex takes puts of entries at a version")
		}
	}
	return reindex{ops}
}

var opKinds = map[string]store.OpKind{"put": store.Put, "delete": store.Delete, "purge": store.Purge, "check": store.Check}

// op reads "put KEY name=value … [body TEXT] [pad N] [tag N] [if CONDITION]…".
func (p *parser) op() opText {
	var op opText
	verb := p.word()
	kind, ok := opKinds[verb]
	if !ok {
		p.fail("not an operation: %q", verb)
	}
	op.Kind = kind
	if next := p.peek(); kind != store.Check || next.text != "if" {
		op.Key = p.key()
	}
	for p.err == nil && len(p.tokens) > 0 {
		switch name := p.word(); {
		case p.take('='):
			op.Entries = append(op.Entries, plan.Entry{Param: p.paramNamed(name), Value: p.value()})
		case name == "body":
			op.Body, op.given = []byte(p.text()), true
		case name == "pad":
			op.pad = int(p.number(maxRepeat))
		case name == "tag":
			op.Tag = byte(p.number(255))
		case name == "if":
			op.If = append(op.If, p.condition())
		default:
			p.fail("not part of an operation: %q", name)
		}
	}
	return op
}

var conditionKinds = map[string]store.ConditionKind{
	"version": store.AtVersion, "exists": store.Exists, "absent": store.Absent, "never": store.Never, "matches": store.Matches,
}

// condition reads "version N", "exists", "absent", "never" or
// "matches(ARMS) KEY…".
func (p *parser) condition() store.Condition {
	word := p.word()
	kind, ok := conditionKinds[word]
	if !ok {
		p.fail("not a condition: %q", word)
	}
	cond := store.Condition{Kind: kind}
	switch kind {
	case store.AtVersion:
		cond.Version = p.number(1 << 62)
	case store.Matches:
		p.expect('(')
		cond.Plan = &plan.Plan{Arms: p.arms(maxNesting)}
		p.expect(')')
		for strings.Contains(p.peek().text, "/") {
			cond.Keys = append(cond.Keys, p.key())
		}
	}
	return cond
}

func (p *parser) key() plan.Key {
	t := p.next()
	key, err := parseKey(t.text)
	if err != nil {
		p.fail("%w", err)
	}
	return key
}

func (p *parser) paramNamed(name string) plan.Param {
	number, ok := paramNumbers[name]
	if !ok {
		p.fail("no such parameter: %q", name)
	}
	return number
}

func (p *parser) typeNamed(name string) plan.Type {
	number, ok := typeNumbers[name]
	if !ok {
		p.fail("no such type: %q", name)
	}
	return number
}

// text reads a word or a string, which may be repeated: "x"*2048.
func (p *parser) text() string {
	t := p.next()
	if t.kind != 'w' && t.kind != 's' {
		p.fail("a text expected, not %q", t.text)
	}
	if p.take('*') {
		n := p.number(maxRepeat)
		if uint64(len(t.text))*n > maxRepeat {
			p.fail("too long a text")
			return ""
		}
		return strings.Repeat(t.text, int(n))
	}
	return t.text
}

// value reads an entry's value: a text, or @Patient/a for its self hash.
func (p *parser) value() []byte {
	if t := p.peek(); t.kind == 'w' && strings.HasPrefix(t.text, "@") {
		p.next()
		if _, err := parseKey(t.text[1:]); err != nil {
			p.fail("%w", err)
		}
		return []byte(selfMark + t.text[1:])
	}
	return []byte(p.text())
}

// bound reads one end of a range; the word - is an open end.
func (p *parser) bound() []byte {
	if p.takeWord("-") {
		return nil
	}
	return p.value()
}

func (p *parser) duration() time.Duration {
	word := p.word()
	d, err := time.ParseDuration(word)
	if err != nil {
		p.fail("not a duration: %q", word)
	}
	return d
}

// when reads a time as its distance from the start; the word - is open.
func (p *parser) when() time.Time {
	if p.takeWord("-") {
		return time.Time{}
	}
	return start.Add(p.duration())
}

// arms reads "Type: CONDITION, Type, …", or none.
func (p *parser) arms(depth int) []plan.Arm {
	if p.takeWord("none") {
		return []plan.Arm{}
	}
	var arms []plan.Arm
	for more := true; more && p.err == nil; more = p.take(',') {
		arm := plan.Arm{Type: p.typeNamed(p.word())}
		if p.take(':') {
			arm.Where = p.node(depth)
		}
		arms = append(arms, arm)
	}
	return arms
}

// node reads a condition.
func (p *parser) node(depth int) plan.Node {
	if depth == 0 {
		p.fail("nested too deep")
		return nil
	}
	name := p.word()
	if name == "true" {
		return nil
	}
	if p.take('=') {
		return plan.Term{Param: p.paramNamed(name), Value: p.value()}
	}
	p.expect('(')
	node := p.call(name, depth-1)
	p.expect(')')
	return node
}

func (p *parser) call(name string, depth int) plan.Node {
	switch name {
	case "and":
		return plan.And(p.nodes(depth))
	case "or":
		return plan.Or(p.nodes(depth))
	case "not":
		return plan.Not{Of: p.node(depth)}
	case "prefix":
		param := p.paramNamed(p.word())
		p.expect(',')
		return plan.Prefix(param, p.value())
	case "contains":
		param := p.paramNamed(p.word())
		p.expect(',')
		return plan.Contains{Param: param, Part: p.value()}
	case "body":
		return bodyTest(p.value())
	case "range":
		return p.rangeNode()
	case "updated":
		low, high := p.span()
		return plan.Updated{Low: low, High: high}
	case "created":
		low, high := p.span()
		return plan.Created{Low: low, High: high}
	case "ids":
		return p.ids()
	case "chain":
		params := p.params()
		p.expect(',')
		return plan.Chain{Params: params, To: p.arms(depth)}
	case "has":
		params := p.params()
		p.expect(',')
		return plan.Has{Params: params, From: p.arms(depth)}
	}
	p.fail("no such condition: %q", name)
	return nil
}

func (p *parser) nodes(depth int) []plan.Node {
	var nodes []plan.Node
	if p.peek().kind == ')' {
		return nodes
	}
	for more := true; more && p.err == nil; more = p.take(',') {
		nodes = append(nodes, p.node(depth))
	}
	return nodes
}

// rangeNode reads "name, low, high" and, for a tail, ", at, low, high".
func (p *parser) rangeNode() plan.Node {
	r := plan.Range{Param: p.paramNamed(p.word())}
	p.expect(',')
	r.Low = p.bound()
	p.expect(',')
	r.High = p.bound()
	if p.take(',') {
		r.Tail = &plan.Tail{At: int(p.number(plan.MaxValueBytes))}
		p.expect(',')
		r.Tail.Low = p.bound()
		p.expect(',')
		r.Tail.High = p.bound()
	}
	return r
}

func (p *parser) span() (low, high time.Time) {
	low = p.when()
	p.expect(',')
	return low, p.when()
}

func (p *parser) ids() plan.Node {
	var ids plan.IDs
	for p.err == nil && p.peek().kind != ')' {
		ids.IDs = append(ids.IDs, p.text())
		if !p.take(',') {
			break
		}
	}
	return ids
}

// params reads "name&text&…".
func (p *parser) params() []plan.Param {
	var params []plan.Param
	for more := true; more && p.err == nil; more = p.take('&') {
		params = append(params, p.paramNamed(p.word()))
	}
	return params
}

func (p *parser) get() action {
	g := get{key: p.key()}
	if number, ok := strings.CutPrefix(p.peek().text, "v"); ok {
		p.next()
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n == 0 {
			p.fail("not a version: %q", number)
		}
		g.version = n
	}
	if p.takeWord("at") {
		g.at = p.word()
	}
	return g
}

func (p *parser) search(count bool) action {
	s := search{count: count}
	s.plan.Limit = defaultLimit
	s.plan.Arms = p.arms(maxNesting)
	for p.take('|') {
		switch word := p.word(); word {
		case "sort":
			s.plan.Sort = p.sorts()
		case "limit":
			s.plan.Limit = int(p.number(maxRepeat))
		case "work":
			s.plan.Work = int64(p.number(1 << 40))
		case "total":
			s.plan.Total = p.total()
		default:
			p.paging(word, &s.paging)
		}
	}
	return s
}

var totalModes = map[string]plan.TotalMode{"exact": plan.TotalExact, "estimate": plan.TotalEstimate}

func (p *parser) total() plan.TotalMode {
	word := p.word()
	mode, ok := totalModes[word]
	if !ok {
		p.fail("no such total: %q", word)
	}
	return mode
}

func (p *parser) paging(word string, g *paging) {
	switch word {
	case "at":
		g.at = p.word()
	case "after":
		g.after = p.word()
	case "next":
		g.next = p.word()
	case "full":
		g.full = true
	case "walk":
		g.walk = true
	default:
		p.fail("no such clause: %q", word)
	}
}

var sortWords = map[string]plan.SortBy{"_updated": plan.ByUpdated, "_id": plan.ByID, "_type": plan.ByType}

// sorts reads "-name&text, _updated, …".
func (p *parser) sorts() []plan.Sort {
	var sorts []plan.Sort
	for more := true; more && p.err == nil; more = p.take(',') {
		var s plan.Sort
		word := p.word()
		word, s.Desc = strings.CutPrefix(word, "-")
		by, special := sortWords[word]
		if s.By = by; !special {
			s.By, s.Params = plan.ByParam, []plan.Param{p.paramNamed(word)}
			if p.take('&') {
				s.Params = append(s.Params, p.params()...)
			}
		}
		sorts = append(sorts, s)
	}
	return sorts
}

// history reads "history KEY", "history types A, B" or "history all", with
// clauses.
func (p *parser) history() action {
	h := history{query: store.HistoryQuery{Limit: defaultLimit}}
	switch {
	case p.takeWord("all"):
	case p.takeWord("types"):
		for more := true; more && p.err == nil; more = p.take(',') {
			h.query.Types = append(h.query.Types, p.typeNamed(p.word()))
		}
	default:
		h.query.Key = p.key()
	}
	for p.take('|') {
		switch word := p.word(); word {
		case "between":
			h.query.Low, h.query.High = p.span()
		case "during":
			h.query.AtLow, h.query.AtHigh = p.span()
		case "where":
			h.query.Where = p.arms(maxNesting)
		case "oldest":
			h.query.OldestFirst = true
		case "limit":
			h.query.Limit = int(p.number(maxRepeat))
		case "total":
			h.query.Total = true
		default:
			p.paging(word, &h.paging)
		}
	}
	return h
}

func (p *parser) follow() action {
	var f follow
	if p.takeWord("after") {
		f.after = p.word()
	}
	for p.take('|') {
		switch {
		case p.takeWord("keep"):
			f.keepNth = int(p.number(maxRepeat))
			f.keep = p.word()
		case p.takeWord("commits"):
			f.commits = true
		default:
			p.fail("no such clause: %q", p.word())
		}
	}
	return f
}

// asksAnswer reports whether a statement asks something: its answer must stand
// in a script. Others may stand without, and must succeed then.
func asksAnswer(do action) bool {
	switch a := do.(type) {
	case get, search, history, follow:
		return true
	case partAct:
		return a.verb == "cursor"
	}
	return false
}

// checkAnswers makes sure that each question of a script has an answer.
func checkAnswers(steps []step) error {
	for _, s := range steps {
		if asksAnswer(s.do) && s.want == nil {
			return fmt.Errorf("line %d: no answer is given to %s", s.line, s.do)
		}
	}
	return nil
}
