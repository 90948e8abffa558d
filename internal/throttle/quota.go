package throttle

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Rate is how many units a bucket takes each Per; the zero Rate is no limit. As
// many as one Per brings, one at least, may come at once.
type Rate struct {
	Units float64
	Per   time.Duration
}

// periods are the units of time of a Rate's text.
var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// maxUnits bounds a Rate's number.
const maxUnits = 1e9

// ParseRate reads "3000/s", "10/m" or "5/h", and "0" for no limit.
func ParseRate(text string) (Rate, error) {
	if text == "0" {
		return Rate{}, nil
	}
	number, period, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(number, 64)
	per, known := periods[period]
	if err != nil || !known || !(n > 0 && n <= maxUnits) {
		return Rate{}, fmt.Errorf("%q is not a rate such as 100/s, 10/m or 5/h, nor 0 for no limit", text)
	}
	return Rate{Units: n, Per: per}, nil
}

// Scope is what one bucket of a quota is for.
type Scope string

// The scopes. A server is one account.
const (
	PerStore   Scope = "store"
	PerAccount Scope = "account"
)

// Key names a quota: an IAM action ("SearchWithGet") or one of Groups, and what
// it is counted for.
type Key struct {
	Name  string
	Scope Scope
}

func (k Key) String() string { return k.Name + "." + string(k.Scope) }

// Groups are actions that share a quota (Amazon HealthLake endpoints and quotas,
// "GET reads" and "WRITE operations"). Writes are counted in units of a kilobyte.
var Groups = map[string][]string{
	"reads":   {"ReadResource", "VersionReadResource", "GetHistoryByResourceId", "GetHistoryByResourceType", "GetFullHistory"},
	writes:    {"CreateResource", "UpdateResource", "PatchResource", "DeleteResource", "ProcessBundle"},
	"tagging": {"ListTagsForResource", "TagResource", "UntagResource"},
}

// writes is the group whose requests weigh what they write.
const writes = "writes"

// Weighs reports whether it matters what writes weigh.
func (l *Limiter) Weighs() bool {
	return l.limits.Quotas[Key{writes, PerStore}].Units > 0 || l.limits.Quotas[Key{writes, PerAccount}].Units > 0
}

// ParseKey reads "SearchWithGet.store". known says which actions there are.
func ParseKey(text string, known func(action string) bool) (Key, error) {
	name, scope, _ := strings.Cut(text, ".")
	k := Key{name, Scope(scope)}
	if _, group := Groups[name]; !group && !known(name) {
		return k, fmt.Errorf("%q: %q is neither an action nor one of %s", text, name, strings.Join(slices.Sorted(maps.Keys(Groups)), ", "))
	}
	if k.Scope != PerStore && k.Scope != PerAccount {
		return k, fmt.Errorf("%q does not end in .%s or .%s", text, PerStore, PerAccount)
	}
	return k, nil
}

// HealthLake are AWS's own quotas (Amazon HealthLake endpoints and quotas), as
// far as they are rates.
func HealthLake() map[Key]Rate {
	quotas := map[Key]Rate{}
	for _, q := range healthLake {
		for name := range strings.FieldsSeq(q.names) {
			for scope, text := range map[Scope]string{PerStore: q.store, PerAccount: q.account} {
				if rate, err := ParseRate(text); err == nil {
					quotas[Key{name, scope}] = rate
				}
			}
		}
	}
	return quotas
}

var healthLake = []struct{ names, store, account string }{
	{"CreateFHIRDatastore DeleteFHIRDatastore", "", "1/m"},
	{"DescribeFHIRDatastore ListFHIRDatastores DescribeFHIRImportJob ListFHIRImportJobs DescribeFHIRExportJob ListFHIRExportJobs", "", "10/s"},
	{"ListTagsForResource TagResource UntagResource", "", "10/s"},
	{"StartFHIRImportJob", "", "25/s"},
	{"StartFHIRExportJob StartFHIRExportJobWithGet StartFHIRExportJobWithPost CancelFHIRExportJobWithDelete", "", "1/s"},
	{"reads writes", "3000/s", "6000/s"},
	{"SearchWithGet SearchWithPost", "100/s", "200/s"},
	{"SearchEverything", "10/s", ""},
	{"ValidateResource", "1000/s", "2000/s"},
	{"StartFHIRBulkDeleteJob DescribeFHIRBulkDeleteJob StartFHIRBulkMemberMatchJob", "10/s", ""},
	{"GetExportedFile", "10/s", ""},
	{"GetCapabilities", "", "10/s"},
	{"Discovery", "", "10/m"},
}

// pail is a token bucket that may be overdrawn: what is heavier than all it
// holds is let through when it is full, and paid for afterwards. x/time/rate
// would refuse it for ever.
type pail struct {
	rate Rate
	most float64 // units
	left float64 // units; below zero after a heavy request
	at   time.Time
}

func newPail(r Rate, now time.Time) *pail {
	most := math.Max(1, r.Units)
	return &pail{rate: r, most: most, left: most, at: now}
}

// wait is how long until units may be taken; 0 is now.
func (p *pail) wait(units float64, now time.Time) time.Duration {
	if passed := now.Sub(p.at); passed > 0 {
		p.left = math.Min(p.most, p.left+p.rate.Units*float64(passed)/float64(p.rate.Per))
		p.at = now
	}
	missing := math.Min(units, p.most) - p.left
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing / p.rate.Units * float64(p.rate.Per)))
}

// Call is a request as quotas count it.
type Call struct {
	Action    string  // IAM action, without its service
	Datastore string  // id; empty: about none
	Units     float64 // what it weighs under the quota for writes; 0 is 1
}

// pailKey is one bucket: of a quota, and of a data store where it is counted for
// each.
type pailKey struct {
	quota Key
	store string
}

// Take takes a request out of every quota that it falls under, or out of none:
// fault.Throttled with the time to wait.
func (l *Limiter) Take(c Call, now time.Time) error {
	if len(l.limits.Quotas) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var wait time.Duration
	pails := l.pails(c, now)
	for p, units := range pails {
		wait = max(wait, p.wait(units, now))
	}
	if wait > 0 {
		return throttled(wait)
	}
	for p, units := range pails {
		p.left -= units
	}
	return nil
}

// pails are the buckets that a request falls under, with its weight in each.
func (l *Limiter) pails(c Call, now time.Time) map[*pail]float64 {
	found := map[*pail]float64{}
	add := func(name string, units float64) {
		for _, scope := range []Scope{PerStore, PerAccount} {
			quota := Key{name, scope}
			rate := l.limits.Quotas[quota]
			if rate.Units == 0 || scope == PerStore && c.Datastore == "" {
				continue
			}
			found[l.pail(quota, rate, c.Datastore, now)] = units
		}
	}
	add(c.Action, 1)
	for name, actions := range Groups {
		if !slices.Contains(actions, c.Action) {
			continue
		}
		if name == writes {
			add(name, math.Max(1, c.Units))
		} else {
			add(name, 1)
		}
	}
	return found
}

func (l *Limiter) pail(quota Key, rate Rate, store string, now time.Time) *pail {
	if quota.Scope == PerAccount {
		store = ""
	}
	key := pailKey{quota, store}
	p := l.quotas[key]
	if p == nil {
		p = newPail(rate, now)
		l.quotas[key] = p
	}
	return p
}

// throttled says how long to wait, in whole seconds and at least one.
func throttled(wait time.Duration) error {
	seconds := max(1, math.Ceil(wait.Seconds()))
	return &fault.Error{Kind: fault.Throttled, Op: "throttle", Hint: "slow down and try again", Retry: fault.Duration(seconds)}
}
