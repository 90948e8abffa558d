package dictionary

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"github.com/klauspost/compress/s2"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// TestNumbersMeanTheSameForEver holds every dictionary against the lock file,
// which only grows: bodies on disk name dictionaries by number.
func TestNumbersMeanTheSameForEver(t *testing.T) {
	set, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("dictionaries.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	locked := 0
	for lines := bufio.NewScanner(file); lines.Scan(); locked++ {
		var number uint64
		var sum string
		if _, err := fmt.Sscan(lines.Text(), &number, &sum); err != nil {
			t.Fatal(err)
		}
		is := sha256.Sum256(set.Bytes(number))
		if hex.EncodeToString(is[:]) != sum {
			t.Errorf("dictionary %d is not the one that was released", number)
		}
	}
	if locked != len(set.byNumber) {
		t.Errorf("%d dictionaries are locked, %d are shipped: add the new ones to dictionaries.lock", locked, len(set.byNumber))
	}
}

func TestDictionariesCompress(t *testing.T) {
	set, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	observation, _ := r4.TypeByName("Observation")
	d := s2.NewDict(set.Bytes(set.For(observation)))
	if d == nil {
		t.Fatal("no dictionary for Observation")
	}
	body := []byte(`{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8302-2","display":"Body Height"}],"text":"Body Height"},"valueQuantity":{"value":171.3,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"}}`)
	packed := d.Encode(nil, body)
	if len(packed)*4 > len(body) {
		t.Errorf("%d bytes become %d", len(body), len(packed))
	}
	back, err := d.Decode(nil, packed)
	if err != nil || string(back) != string(body) {
		t.Errorf("read back: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	small, err := Write([]Entry{{1, "Patient", []byte("content")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packed []byte) {
		if len(packed) > 1<<12 {
			return
		}
		set, err := Read(packed)
		if (set == nil) == (err == nil) {
			t.Fatalf("%v, %v", set, err)
		}
	})
}
