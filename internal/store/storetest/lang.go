package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The words of the language. Types and parameters have fixed numbers, so that
// scripts need no declarations: some neighbours, some with a byte between them,
// some that share a parameter number and differ in the facet.
var (
	typeNumbers = map[string]plan.Type{
		"Patient": 1, "Observation": 2, "Organization": 3, "Group": 0x00ff, "Binary": 0x0100,
		"Job": plan.SystemTypes, "Audit": plan.SystemTypes + 1, "Sentinel": 0xffff,
	}
	paramNumbers = map[string]plan.Param{
		"name": plan.NewParam(1, 0), "exact": plan.NewParam(1, 3), "gender": plan.NewParam(2, 0),
		"birth": plan.NewParam(3, 0), "subject": plan.NewParam(4, 0), "member": plan.NewParam(5, 0),
		"code": plan.NewParam(6, 0), "text": plan.NewParam(6, 2), "value": plan.NewParam(0x00ff, 0),
		"high": plan.NewParam(0x0100, 0xff), "present": plan.NewParam(7, 8),
	}
	typeNames  = inverse(typeNumbers)
	paramNames = inverse(paramNumbers)
)

func inverse[K, V comparable](m map[K]V) map[V]K {
	turned := make(map[V]K, len(m))
	for k, v := range m {
		turned[v] = k
	}
	return turned
}

// selfMark begins a value that stands for the self hash of a resource, whose
// key follows as text; it becomes the hash when a step runs (resolve), because
// each store has a hash key of its own.
const selfMark = "\xff\xfe@"

// step is one statement of a script with the answer it must get.
type step struct {
	line int // in its file, from 1
	do   action
	want []string // lines behind "->"; nil: no answer is asked for
}

// action is a statement; String is its text, without a final newline.
type action interface {
	String() string
	run(m *machine) []string
}

// The statements.
type (
	commitOps struct{ ops []opText } // put, delete, purge, check; several: commit
	reindex   struct{ ops []opText } // puts, each under the condition of a version
	moveClock struct{ by time.Duration }
	mark      struct{ moment string } // keeps the present moment under a name
	get       struct {
		key     plan.Key
		version uint64 // 0: the current one
		at      string
	}
	search struct {
		plan  plan.Plan
		count bool // count instead of search
		paging
	}
	history struct {
		query store.HistoryQuery
		paging
	}
	follow struct {
		after   string
		keepNth int // keeps the moment of the nth change …
		keep    string
		commits bool // show where a commit ends
	}
	reopen struct{}
	add    struct {
		part   string // import/part
		cursor string
		ops    []opText
	}
	partAct struct{ verb, name string } // flush, cursor, close, forget
)

// opText is an op whose body is still to be made: of pad bytes, or as given.
type opText struct {
	store.Op
	given bool
	pad   int
}

// paging is what search and history have in common.
type paging struct {
	at, after, next string // names of a moment, of tokens
	full            bool   // show all of each record
	walk            bool   // all pages, one after the other
}

// token kinds: 'w' a word, 's' a quoted string, 0 the end, else punctuation.
type token struct {
	kind byte
	text string
}

const punctuation = "():,|=&*"

// tokenize splits one line.
func tokenize(line string) ([]token, error) {
	var tokens []token
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		switch {
		case line[0] == '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("a string without end: %s", line)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("not a string: %s", quoted)
			}
			tokens, line = append(tokens, token{'s', text}), line[len(quoted):]
		case strings.IndexByte(punctuation, line[0]) >= 0:
			tokens, line = append(tokens, token{line[0], line[:1]}), line[1:]
		default:
			n := wordLength(line)
			if n == 0 {
				return nil, fmt.Errorf("what is this: %s", line)
			}
			tokens, line = append(tokens, token{'w', line[:n]}), line[n:]
		}
	}
	return tokens, nil
}

func wordLength(s string) int {
	for i := 0; i < len(s); i++ {
		if !isWord(s[i]) {
			return i
		}
	}
	return len(s)
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_./@$+-", c) >= 0
}

// resolve puts hashes in the place of selfMark values, in all of a plan.
func resolveArms(arms []plan.Arm, hash plan.HashKey) []plan.Arm {
	if arms == nil {
		return nil
	}
	resolved := make([]plan.Arm, len(arms))
	for i, a := range arms {
		resolved[i] = plan.Arm{Type: a.Type, Where: resolveNode(a.Where, hash)}
	}
	return resolved
}

func resolveNode(node plan.Node, hash plan.HashKey) plan.Node {
	switch n := node.(type) {
	case plan.Term:
		return plan.Term{Param: n.Param, Value: resolveValue(n.Value, hash)}
	case plan.Range:
		n.Low, n.High = resolveValue(n.Low, hash), resolveValue(n.High, hash)
		return n
	case plan.And:
		return plan.And(resolveNodes(n, hash))
	case plan.Or:
		return plan.Or(resolveNodes(n, hash))
	case plan.Not:
		return plan.Not{Of: resolveNode(n.Of, hash)}
	case plan.Chain:
		return plan.Chain{Params: n.Params, To: resolveArms(n.To, hash)}
	case plan.Has:
		return plan.Has{Params: n.Params, From: resolveArms(n.From, hash)}
	default:
		return node
	}
}

func resolveNodes(nodes []plan.Node, hash plan.HashKey) []plan.Node {
	resolved := make([]plan.Node, len(nodes))
	for i, n := range nodes {
		resolved[i] = resolveNode(n, hash)
	}
	return resolved
}

func resolveValue(v []byte, hash plan.HashKey) []byte {
	text, ok := strings.CutPrefix(string(v), selfMark)
	if !ok {
		return v
	}
	key, err := parseKey(text)
	if err != nil {
		return v
	}
	self := hash.Self(key)
	return self[:]
}

// parseKey reads "Patient/a". The id may be anything, so that scripts can try
// ids that no engine takes.
func parseKey(text string) (plan.Key, error) {
	name, id, ok := strings.Cut(text, "/")
	number, known := typeNumbers[name]
	if !ok || !known {
		return plan.Key{}, fmt.Errorf("not a key: %q", text)
	}
	return plan.Key{Type: number, ID: id}, nil
}

func keyText(key plan.Key) string {
	name, ok := typeNames[key.Type]
	if !ok {
		name = fmt.Sprintf("type%d", key.Type)
	}
	return name + "/" + key.ID
}
