package terminology

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// r4Definitions are the value sets and code systems of hl7.fhir.r4.core 4.0.1,
// cut down to what expansion reads: a line of JSON each, compressed with zstd.
// gen makes the file; PROVENANCE.md says from what.
//
//go:embed r4.ndjson.zst
var r4Definitions []byte

// maxShipped bounds what r4Definitions unpack to, in bytes.
const maxShipped = 16 << 20

type shippedKey struct{ resourceType, url string }

// shipped unpacks the definitions, once, at the first question that the data
// store itself cannot answer.
var shipped = sync.OnceValues(func() (map[shippedKey][]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(r4Definitions), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxShipped))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "terminology.shipped", err)
	}
	defer z.Close()
	all := map[shippedKey][]byte{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, maxShipped)
	for lines.Scan() {
		var head struct{ ResourceType, URL string }
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			return nil, fault.Wrap(fault.Internal, "terminology.shipped", err)
		}
		all[shippedKey{head.ResourceType, head.URL}] = bytes.Clone(lines.Bytes())
	}
	return all, fault.Wrap(fault.Internal, "terminology.shipped", lines.Err())
})

// Shipped gives R4's own ValueSet or CodeSystem of this canonical; a version
// other than R4's is another definition, so nil.
func Shipped(resourceType, canonical string) ([]byte, error) {
	all, err := shipped()
	if err != nil {
		return nil, err
	}
	url, version, _ := strings.Cut(canonical, "|")
	raw := all[shippedKey{resourceType, url}]
	if raw == nil || version == "" {
		return raw, nil
	}
	var head struct{ Version string }
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fault.Wrap(fault.Internal, "terminology.Shipped", err)
	}
	if head.Version != version {
		return nil, nil
	}
	return raw, nil
}
