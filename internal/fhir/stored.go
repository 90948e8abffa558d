package fhir

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// storedFormat is the first byte of the stored form. It is a persisted format,
// drawn in DESIGN.md: a change of meaning takes a new number, and the old ones
// stay readable.
const storedFormat = 1

// What a splice puts in (low two bits of its opcode), and the commas around.
const (
	spliceID      = iota // "id":"…"
	spliceVersion        // "versionId":"…"
	spliceUpdated        // "lastUpdated":"…"
	spliceMeta           // "meta":{"versionId":"…","lastUpdated":"…"}

	spliceMember      = 3
	spliceCommaBefore = 1 << 2
	spliceCommaAfter  = 1 << 3
	spliceOps         = 1 << 4 // opcodes are below
)

// maxSplices is the most a header lists: id, versionId, lastUpdated.
const maxSplices = 3

// maxHeader bounds the header: format, count, and for each splice an opcode
// and a distance of up to five bytes (32 bits as a varint).
const maxHeader = 2 + maxSplices*(1+5)

// maxServerBytes is about what the spliced members take, for sizing.
const maxServerBytes = 64 + 20 + len(instantLayout) + len(`"id":"","meta":{"versionId":"","lastUpdated":""},,`)

// Store gives the stored form of a resource: its JSON without white space
// between tokens and without id, meta.versionId and meta.lastUpdated, behind a
// short header that says where those belong. It fails with Invalid when the
// root is no object with a resourceType or its meta is no object.
func Store(d *Document) ([]byte, error) {
	root := d.Root()
	switch {
	case root.Kind() != Object:
		return nil, fault.New(fault.Invalid, "fhir.Store", "a resource is a JSON object, not %s", root.Kind())
	case d.ResourceType() == "":
		return nil, fault.New(fault.Invalid, "fhir.Store", "the resource has no resourceType")
	}
	meta := root.GetName(nameMeta)
	if meta.Exists() && meta.Kind() != Object {
		return nil, fault.New(fault.Invalid, "fhir.Store", "meta is an object, not %s", meta.Kind())
	}
	s := storer{doc: d, out: make([]byte, maxHeader, maxHeader+len(d.src))}
	s.object(root, s.rootPieces(root, meta))
	return s.withHeader(), nil
}

// storer writes the stored form: the JSON behind room for the largest header,
// then the header directly before the JSON.
type storer struct {
	doc     *Document
	out     []byte
	splices [maxSplices]splice
	n       int
}

// splice is a place in the stored JSON where a server's member goes in.
type splice struct {
	at int // from the start of the stored JSON
	op byte
}

// pieces says where an object's server members go: each stands where the
// client had it, or, when the client had none, behind the node after (Absent is
// the start of the object).
type pieces struct {
	after Node    // behind this member come the ones in added
	added [2]byte // splice members, in order
	count int
	here  [2]Node // client's members that are replaced
	as    [2]byte // what by
	inner Node    // meta, which has pieces of its own
}

func (p *pieces) add(op byte) {
	p.added[p.count] = op
	p.count++
}

// rootPieces: id stands where it was, else behind resourceType; a meta that
// was not there comes behind id.
func (s *storer) rootPieces(root, meta Node) pieces {
	p := pieces{after: root.GetName(nameResourceType), inner: meta}
	if id := root.GetName(nameID); id.Exists() {
		p.here[0], p.as[0] = id, spliceID
		p.after = id
	} else {
		p.add(spliceID)
	}
	if !meta.Exists() {
		p.add(spliceMeta)
	}
	return p
}

// metaPieces: versionId and lastUpdated stand where they were, else first.
func metaPieces(meta Node) pieces {
	var p pieces
	if v := meta.GetName(nameVersionID); v.Exists() {
		p.here[0], p.as[0] = v, spliceVersion
	} else {
		p.add(spliceVersion)
	}
	if u := meta.GetName(nameLastUpdated); u.Exists() {
		p.here[1], p.as[1] = u, spliceUpdated
	} else {
		p.add(spliceUpdated)
	}
	return p
}

// object writes an object's kept members and notes the splices between them.
func (s *storer) object(n Node, p pieces) {
	s.out = append(s.out, '{')
	kept := false // a kept member has been written
	first := s.n  // number of the object's first splice
	if !p.after.Exists() {
		s.splice(p, kept, first)
	}
	for c := range n.children() {
		if op, replaced := p.replaces(c); replaced {
			s.note(op, kept, first)
		} else {
			s.member(c, p.inner, kept, first)
			kept = true
		}
		if c == p.after {
			s.splice(p, kept, first)
		}
	}
	s.out = append(s.out, '}')
}

func (p *pieces) replaces(c Node) (op byte, yes bool) {
	for k, n := range p.here {
		if n == c {
			return p.as[k], true
		}
	}
	return 0, false
}

// splice notes the added members at this place.
func (s *storer) splice(p pieces, kept bool, first int) {
	for _, op := range p.added[:p.count] {
		s.note(op, kept, first)
	}
}

// note lists a splice here. Behind a kept member it brings the comma before
// it; ahead of all kept ones, the comma depends on what follows: a further
// splice brings none of its own then, so it is given to the earlier one as a
// comma after, as member does for the last of them.
func (s *storer) note(op byte, kept bool, first int) {
	if kept {
		op |= spliceCommaBefore
	} else if s.n > first {
		s.splices[s.n-1].op |= spliceCommaAfter
	}
	s.splices[s.n] = splice{at: len(s.out) - maxHeader, op: op}
	s.n++
}

// member writes a kept member.
func (s *storer) member(c, meta Node, kept bool, first int) {
	if kept {
		s.out = append(s.out, ',')
	} else if s.n > first {
		s.splices[s.n-1].op |= spliceCommaAfter
	}
	t := c.tape()
	if c == meta {
		s.copy(t.nameOff-1, t.off)
		s.object(meta, metaPieces(meta))
		return
	}
	s.copy(t.nameOff-1, t.end)
}

func (s *storer) copy(from, to uint32) {
	if s.doc.spaced {
		s.out = AppendCompact(s.out, s.doc.src[from:to])
		return
	}
	s.out = append(s.out, s.doc.src[from:to]...)
}

func (s *storer) withHeader() []byte {
	header := append(make([]byte, 0, maxHeader), storedFormat, byte(s.n))
	last := 0
	for _, sp := range s.splices[:s.n] {
		header = append(header, sp.op)
		header = binary.AppendUvarint(header, uint64(sp.at-last))
		last = sp.at
	}
	start := maxHeader - len(header)
	copy(s.out[start:], header)
	return s.out[start:]
}

// storedView is a stored form taken apart.
type storedView struct {
	splices [maxSplices]splice
	n       int
	json    []byte
}

// open takes a stored form apart; false when Store did not write it.
func openStored(stored []byte) (storedView, bool) {
	var v storedView
	if len(stored) < 2 || stored[0] != storedFormat || stored[1] > maxSplices {
		return v, false
	}
	v.n = int(stored[1])
	rest := stored[2:]
	at := uint64(0)
	for k := range v.n {
		if len(rest) == 0 || rest[0] >= spliceOps {
			return v, false
		}
		gap, n := binary.Uvarint(rest[1:])
		if n <= 0 || gap > uint64(len(stored)) {
			return v, false
		}
		at += gap
		v.splices[k] = splice{at: int(at), op: rest[0]}
		rest = rest[1+n:]
	}
	v.json = rest
	return v, at <= uint64(len(rest))
}

// CheckStored says whether AppendResource and StoredJSON can read a stored
// form: Internal when they cannot.
func CheckStored(stored []byte) error {
	if _, ok := openStored(stored); !ok {
		return fault.New(fault.Internal, "fhir.CheckStored", "not a stored resource of a known format")
	}
	return nil
}

// AppendResource appends the resource of a stored form: with its id, version
// and time where the client had them, or where FHIR's order puts them (id
// behind resourceType, meta behind id, versionId and lastUpdated first in
// meta). It costs about one copy. From bytes that are no stored form it appends
// nothing; CheckStored says why.
func AppendResource(dst, stored []byte, id string, version uint64, updated time.Time) []byte {
	v, ok := openStored(stored)
	if !ok {
		return dst
	}
	from := 0
	for _, sp := range v.splices[:v.n] {
		dst = append(dst, v.json[from:sp.at]...)
		from = sp.at
		if sp.op&spliceCommaBefore != 0 {
			dst = append(dst, ',')
		}
		dst = appendServerMember(dst, sp.op&spliceMember, id, version, updated)
		if sp.op&spliceCommaAfter != 0 {
			dst = append(dst, ',')
		}
	}
	return append(dst, v.json[from:]...)
}

func appendServerMember(dst []byte, member byte, id string, version uint64, updated time.Time) []byte {
	switch member {
	case spliceID:
		return AppendString(append(dst, `"id":`...), id)
	case spliceVersion:
		dst = append(dst, `"versionId":"`...)
		return append(strconv.AppendUint(dst, version, 10), '"')
	case spliceUpdated:
		dst = append(dst, `"lastUpdated":"`...)
		return append(AppendInstant(dst, updated), '"')
	}
	dst = append(dst, `"meta":{`...)
	dst = appendServerMember(dst, spliceVersion, id, version, updated)
	dst = appendServerMember(append(dst, ','), spliceUpdated, id, version, updated)
	return append(dst, '}')
}

// ResourceSize is about how long the result of AppendResource is; with a valid
// id, never less.
func ResourceSize(stored []byte) int { return len(stored) + maxServerBytes }

// StoredJSON is the JSON inside a stored form, without the members the server
// sets; nil from bytes that are no stored form. It is part of stored.
func StoredJSON(stored []byte) []byte {
	v, ok := openStored(stored)
	if !ok {
		return nil
	}
	return v.json
}
