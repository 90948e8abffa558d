// Command gen makes the dictionaries of package dictionary from the Synthea
// patients that are shipped: run it in internal/fhir/dictionary with -out. It
// gives new numbers only where -first says so; numbers that were released stay.
//
// A dictionary is picked greedily: resources of a type, in a fixed shuffled
// order, are compressed over what was picked so far, and those that compress
// badly are picked, until the dictionary is full. The newest pick stands last,
// where S2 reaches it from everywhere.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

const (
	dictBytes  = 60 << 10 // S2 reaches back 64 KiB, the resource itself included
	maxSamples = 4000     // resources of a type that are looked at
	badRatio   = 0.22     // compressed over raw from which a resource is worth its place
	minSamples = 20       // types with fewer get no dictionary
	maxLine    = 64 << 20
)

func main() {
	out := flag.String("out", "dictionaries.zst", "file to write")
	first := flag.Uint64("first", 1, "number of the first dictionary")
	flag.Parse()
	samples, err := collect()
	if err != nil {
		log.Fatal(err)
	}
	var entries []dictionary.Entry
	number := *first
	for _, name := range sortedKeys(samples) {
		list := samples[name]
		if len(list) < minSamples {
			continue
		}
		content := pick(list)
		entries = append(entries, dictionary.Entry{Number: number, Type: name, Content: content})
		fmt.Printf("%3d %-28s %5d resources, %5d bytes, %4.1fx\n", number, name, len(list), len(content), ratio(list, content))
		number++
	}
	packed, err := dictionary.Write(entries)
	if err == nil {
		err = os.WriteFile(*out, packed, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// collect reads stored forms by type.
func collect() (map[string][][]byte, error) {
	parts, err := synthea.Embedded().Parts(context.Background())
	if err != nil {
		return nil, err
	}
	all := map[string][][]byte{}
	for _, p := range parts {
		in, err := p.Open(context.Background())
		if err != nil {
			return nil, err
		}
		if err := readPart(in, all); err != nil {
			return nil, err
		}
		if err := in.Close(); err != nil {
			return nil, err
		}
	}
	for name, list := range all {
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		all[name] = list[:min(len(list), maxSamples)]
	}
	return all, nil
}

func readPart(in io.Reader, all map[string][][]byte) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		doc, err := fhir.Parse(slices.Clone(lines.Bytes()))
		if err != nil {
			return err
		}
		stored, err := fhir.Store(doc)
		if err != nil {
			return err
		}
		all[doc.ResourceType()] = append(all[doc.ResourceType()], stored)
	}
	return lines.Err()
}

func pick(list [][]byte) []byte {
	var content []byte
	d := s2.MakeDict(list[0], nil)
	for _, body := range list {
		if d != nil && float64(len(d.Encode(nil, body))) < badRatio*float64(len(body)) {
			continue
		}
		if len(content)+len(body) > dictBytes {
			continue
		}
		content = append(content, body...)
		if len(content) >= s2.MinDictSize {
			d = s2.MakeDict(content, nil)
		}
	}
	if len(content) < s2.MinDictSize {
		content = list[0][:min(len(list[0]), dictBytes)]
	}
	return s2.MakeDict(content, nil).Bytes()
}

func ratio(list [][]byte, content []byte) float64 {
	d := s2.NewDict(content)
	raw, packed := 0, 0
	for _, body := range list {
		raw += len(body)
		packed += len(d.Encode(nil, body))
	}
	return float64(raw) / float64(packed)
}

func sortedKeys(m map[string][][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
