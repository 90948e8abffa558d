package linear

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// The model is not one that takes everything.
func TestModelRefuses(t *testing.T) {
	put := func(text string, version uint64, status int, call, end int64) porcupine.Operation {
		return porcupine.Operation{Input: step{kind: "put", text: text}, Output: told{status: status, versions: [2]uint64{version}}, Call: call, Return: end}
	}
	read := func(text string, version uint64, call, end int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: step{kind: "read"}, Output: told{status: 200, versions: [2]uint64{version}, texts: [2]string{text}}, Call: call, Return: end}
	}
	lost := func(text string, call int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 2, Input: step{kind: "put", text: text}, Output: told{unknown: true}, Call: call, Return: math.MaxInt64}
	}
	tests := []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"in order", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 3), read("b", 2, 4, 5)}, true},
		{"at the same time", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 6), read("a", 1, 4, 5)}, true},
		{"a stale read", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 2, 200, 2, 3), read("a", 1, 4, 5)}, false},
		{"unanswered and done", []porcupine.Operation{put("a", 1, 201, 0, 1), lost("b", 2), read("b", 2, 4, 5)}, true},
		{"unanswered and not done", []porcupine.Operation{put("a", 1, 201, 0, 1), lost("b", 2), read("a", 1, 4, 5)}, true},
		{"unanswered and undone", []porcupine.Operation{put("a", 1, 201, 0, 1), lost("b", 2), read("b", 2, 4, 5), read("a", 1, 6, 7)}, false},
		{"a lost update", []porcupine.Operation{put("a", 1, 201, 0, 1), put("b", 1, 201, 2, 3)}, false},
	}
	for _, tt := range tests {
		if got := porcupine.CheckOperations(model, tt.history); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
