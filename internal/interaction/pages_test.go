package interaction

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/tarn-fhir/tarn/internal/store"
)

// A page token is read as it was written, and is as long whatever the numbers of
// the engine in it are.
func TestPageTokensTellNothingByTheirLength(t *testing.T) {
	short := pageToken{Path: "Patient", Query: "family=x", Moment: "lsm1-1-1", After: []byte{1}, Back: [][]byte{nil, {2}}}
	long := pageToken{Path: "Patient", Query: "family=x", Moment: "lsm1-3w5e11264sgsf-3w5e11264sgsf", After: bytes.Repeat([]byte{0x80}, 40), Back: [][]byte{nil, bytes.Repeat([]byte{0}, 40)}}
	var lengths []int
	for _, token := range []pageToken{short, long, {Path: "Patient", Moment: store.Moment("")}} {
		raw, err := json.Marshal(token.sealed())
		if err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, len(raw))
		var read sealedPage
		if err := json.Unmarshal(raw, &read); err != nil || !reflect.DeepEqual(read.token(), token) {
			t.Errorf("%+v, want %+v (%v)", read.token(), token, err)
		}
	}
	if lengths[0] != lengths[1] {
		t.Errorf("lengths are %v", lengths)
	}
	for _, wrong := range []string{`{"m":"AAAA"}`, `{"m":"gAE="}`, `{"m":1}`} {
		if err := json.Unmarshal([]byte(wrong), new(sealedPage)); err == nil {
			t.Errorf("%s is read", wrong)
		}
	}
}
