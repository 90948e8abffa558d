// Package synthea is the source of synthetic patients that a new data store
// can be preloaded with (PreloadDataConfig SYNTHEA).
//
// # Shape
//
// A Source is a list of parts; a part is a stream of NDJSON, one FHIR R4
// resource a line, each with resourceType and id. Every reference that was
// urn:uuid:… or conditional (Practitioner?identifier=…) in Synthea's bundles is
// a literal Type/id here, as a server that processed the bundles would have
// made it; no other value differs from what Synthea wrote. The parts come in an
// order that loads well: organizations, locations and practitioners first, then
// whole patients. A part is the unit of resuming: its name and its content are
// the same at every call, as long as the source's files are.
//
//	Embedded  the set inside the binary: parts of zstd, gen/README.md tells how it is made
//	Dir       a folder of the operator's own Synthea output: bundles or NDJSON
//	Count     patients, resources and types of a list of parts
//
// # Use
//
//	parts, err := synthea.Embedded().Parts(ctx)
//	for _, part := range parts {
//		stream, err := part.Open(ctx)
//		// read lines, import them, note part.Name as done
//		stream.Close()
//	}
//
// # Concurrency
//
// Different parts, and one part several times, may be read at the same time by
// different goroutines; one stream by one goroutine. Memory per open stream is
// bounded: two windows of zstd for Embedded; the largest resource and the names
// of one bundle's entries for Dir.
//
// The terms of the content are in NOTICE.md.
package synthea

import (
	"context"
	"io"
)

// Source gives synthetic patients.
type Source interface {
	// Parts lists what there is, in the order in which it loads best. Errors
	// are *fault.Error: Invalid for files that are not Synthea output of R4 or
	// hold a reference that nothing in the source answers, TooLarge for one
	// beyond the bounds, Canceled, Internal when a file cannot be read.
	Parts(ctx context.Context) ([]Part, error)
}

// Part is one stream of resources.
type Part struct {
	Name      string         // unique in the source, stable; the file's name for Dir
	Resources int            // lines of the stream
	Types     map[string]int // lines by resource type

	// Open starts the stream at the part's first line. Errors here and while
	// reading are as in Source.Parts. The context ends the stream too.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Stats is what a source holds.
type Stats struct {
	Patients  int
	Resources int
	Types     map[string]int // resources by type
}

// Count sums up parts without opening them.
func Count(parts []Part) Stats {
	s := Stats{Types: make(map[string]int)}
	for _, p := range parts {
		s.Resources += p.Resources
		for kind, n := range p.Types {
			s.Types[kind] += n
		}
	}
	s.Patients = s.Types["Patient"]
	return s
}
