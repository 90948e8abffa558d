package store

import "github.com/tarn-fhir/tarn/internal/search/plan"

// Explanation is how an engine carries out a plan. It holds no value of the plan
// and nothing of a resource.
type Explanation struct {
	Order   string // how the matches come into their order, in words
	Arms    []ExplainedArm
	Matches int64 // of the whole plan, counted
	Looked  int64 // rows that the search for one page looked at, as Plan.Work counts them
}

// ExplainedArm is one arm of a plan.
type ExplainedArm struct {
	Type    plan.Type
	AtMost  int64 // matches, as the engine estimates them before it looks
	Matches int64 // matches, counted
	Where   Explained
}

// Explained is one condition of an arm. Counts are of current resources of the
// arm's type that meet this condition alone.
type Explained struct {
	Is      string       // "term", "range", "all of": what kind of condition it is
	How     string       // how it is carried out, where there is a choice; else empty
	Params  []plan.Param // what it looks at; nil for conditions over others
	AtMost  int64        // as the engine estimates it; Unknown: it does not
	Matches int64        // counted; Unknown: too many rows to look at, or not counted
	Leads   bool         // of the parts of "all of": rows come from it, the other parts test them
	Parts   []Explained
	To      []ExplainedArm // of a chain or a has: what stands behind the hop
}

// Unknown is a count that is not known.
const Unknown int64 = -1
