// Package searchparam is the registry of search parameters and the extraction
// of index entries.
//
//	Registry    type, code → search.Param            registry.go, over the tables of fhir/r4
//	Extractor   resource → []plan.Entry              extract.go
//	expression  FHIRPath → members to walk           path.go
//	content     every string → words, by choice      content.go
//	element     HumanName, Quantity, … → entries     convert.go, reference.go, timing.go
//
// Each parameter's own expression decides what is indexed. It is compiled once
// per type, into the members to walk and the types to expect, so that nothing is
// looked up while a resource is walked. What an element becomes follows from the
// parameter's type and the element's (R4 3.1.1.4.4 ff.); the bytes are written
// by package search.
//
//	reg := searchparam.NewRegistry()
//	x := searchparam.NewExtractor(reg, store.HashKey(), base)
//	entries, issues := x.Extract(key, doc.Root())
package searchparam

// Extraction is the number of what this package makes of resources. It goes up
// when entries of resources that did not change become others; data stores of
// before are then indexed anew (package reindex).
//
//	1  the first
//	2  long texts, contained resources, Binary.securityContext
//	3  instants are moments; parts of family names; canonicals without fragment; the
//	   first resource of a Bundle by its type
//	4  the values of extensions that definitions end at; contained resources by the
//	   type that a reference must be to
const Extraction = 4
