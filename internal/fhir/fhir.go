// Package fhir holds a FHIR resource as a lossless JSON document.
//
// # Shape
//
// A Document is the client's bytes plus a tape: one flat array of 32-byte
// nodes without pointers, one node per JSON value, in document order. A node
// knows its span of bytes, its member name, its parent and where the tape goes
// on after its children. Nothing is converted: a number is the text that was
// sent, members keep their order, unknown members are members like others.
// Node is a small value (document, index) that points at one value; the zero
// Node is Absent and answers every method.
//
//	Parse          bytes → Document, strictly (RFC 8259, RFC 7493, no repeated member names)
//	Node           Get, Index, Members, Items, Text, Raw, Path, Position
//	Apply          edits → bytes; whatever is not edited stays byte for byte
//	Store          Document → stored form, without what the server sets
//	AppendResource stored form + id, version, time → resource
//	ParseDate      date, dateTime, instant → half-open interval of milliseconds
//	ParseReference the text of a reference → its parts
//	Outcome        fault.Error → OperationOutcome
//	BundleWriter   entries → Bundle
//
// # Use
//
//	doc, err := fhir.Parse(body)
//	if err != nil {
//		return err // *fault.Error, Kind Syntax, with line and column
//	}
//	defer doc.Release()
//	family := doc.Root().Get("name").Index(0).Get("family").Text()
//
// Code that asks for the same members again and again interns their names
// once, at start, and uses GetName, which compares numbers:
//
//	var nameStatus = fhir.Intern("status")
//	status := doc.Root().GetName(nameStatus).Text()
//
// # Concurrency
//
// A Document does not change after Parse: any number of goroutines may read
// it, until one calls Release.
//
// The tape and the stored form are drawn in DESIGN.md.
package fhir
