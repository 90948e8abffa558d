package store

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

func TestCheckPlan(t *testing.T) {
	deep := plan.Node(plan.Not{})
	for range MaxDepth {
		deep = plan.Not{Of: deep}
	}
	twice := []plan.Arm{{Type: 1}, {Type: 1}}
	one := func(n plan.Node) *plan.Plan { return &plan.Plan{Arms: []plan.Arm{{Where: n}}} }
	for _, p := range []*plan.Plan{
		nil, {Limit: -1}, {Work: -1}, {Arms: twice}, one(deep), one(&plan.And{}), one(plan.And{&plan.IDs{}}),
		one(plan.Or{plan.Not{Of: plan.Has{From: twice}}}), one(plan.Chain{To: twice}), one(plan.Range{Tail: &plan.Tail{At: -1}}),
	} {
		if err := CheckPlan("test", p); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	good := one(plan.And{nil, plan.Or{}, plan.Not{}, plan.Chain{}, plan.Has{}, plan.Range{}, plan.Term{}, plan.Contains{}, plan.Updated{}, plan.Created{}, plan.IDs{}})
	if err := CheckPlan("test", good); err != nil {
		t.Error(err)
	}
}
