package xml

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// jsonPerXML guesses how many bytes of JSON a byte of XML makes: HL7's examples
// make 0.6 to 0.9.
const jsonPerXML = 1

// ToJSON turns one resource in FHIR's XML into JSON without white space, as
// fhir.Parse takes it: members in R4's order, arrays where R4 lets an element
// repeat, numbers as they are written. Zero limits are DefaultLimits.
//
// It is strict (https://hl7.org/fhir/R4/xml.html): refused are elements and
// attributes that R4 does not have at their place, any order but R4's, text
// outside of narratives, empty elements, other encodings than UTF-8, document
// type declarations and entities but XML's five. Whether values, cardinalities
// and narratives are right beyond what JSON needs is left to validation.
//
// The error is a *fault.Error with one Place: Syntax when the text is not
// well-formed XML, Invalid with an Expression when it is not FHIR's, TooLarge
// when it passes a bound on length or count.
func ToJSON(src []byte, limits fhir.Limits) ([]byte, error) {
	r := reader{}
	return r.read(src, limits)
}

// reader goes through the XML once and writes JSON as it goes.
type reader struct {
	s       scanner
	out     []byte
	path    []step
	scratch []byte       // a narrative or a value being written
	visit   func(at int) // told of each place that has an expression, path; may be nil
}

// step is one step of an expression.
type step struct {
	name  string
	index int // -1 without one
}

func (r *reader) read(src []byte, limits fhir.Limits) ([]byte, error) {
	limits = orDefault(limits)
	if len(src) > limits.MaxBytes {
		return nil, tooLarge(0, "the text has more than %d bytes", limits.MaxBytes).problem("xml.ToJSON", "", 0, 0)
	}
	r.s = scanner{src: src, limits: limits}
	r.out = make([]byte, 0, len(src)*jsonPerXML)
	if wrong := r.document(); wrong != nil {
		line, col := position(src, wrong.at)
		return nil, wrong.problem("xml.ToJSON", r.expression(wrong), line, col)
	}
	return r.out, nil
}

// expression is where in the resource a finding is; XML that cannot be read has
// no such place.
func (r *reader) expression(f *finding) string {
	if f.kind != fault.Invalid {
		return ""
	}
	return string(appendPath(nil, r.path))
}

// appendPath writes a path as fhir.Node.Path does.
func appendPath(dst []byte, path []step) []byte {
	for i, s := range path {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, s.name...)
		if s.index >= 0 {
			dst = strconv.AppendInt(append(dst, '['), int64(s.index), 10)
			dst = append(dst, ']')
		}
	}
	return dst
}

// position gives the line and column of an offset, from 1, columns in characters.
func position(src []byte, at int) (line, col int) {
	before := src[:min(at, len(src))]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

func (r *reader) document() *finding {
	if at := badChar(r.s.src); at >= 0 {
		if b := r.s.src[at]; b < utf8.RuneSelf {
			return syntax(at, "the character U+%04X is not allowed in XML", b)
		}
		return syntax(at, "not UTF-8, or a character that is not allowed in XML")
	}
	if wrong := r.s.prolog(); wrong != nil {
		return wrong
	}
	if wrong := r.content(); wrong != nil {
		return wrong
	}
	if r.s.kind == kindEnd {
		return syntax(r.s.pos, "the text has no element")
	}
	if wrong := r.resource(); wrong != nil {
		return wrong
	}
	if wrong := r.content(); wrong != nil {
		return wrong
	}
	if r.s.kind != kindEnd {
		return syntax(r.s.from, "a second element stands behind the resource")
	}
	return nil
}

// content reads on to the next tag or the end.
func (r *reader) content() *finding {
	for {
		if wrong := r.s.next(); wrong != nil {
			return wrong
		}
		switch r.s.kind {
		case kindOpen, kindClose, kindEnd:
			return nil
		case kindText, kindCDATA:
			if wrong := r.blank(); wrong != nil {
				return wrong
			}
		}
	}
}

// blank refuses text, which FHIR's elements do not have.
func (r *reader) blank() *finding {
	text := r.s.src[r.s.from:r.s.pos]
	for i, c := range text {
		switch {
		case isSpace(c):
		case len(r.s.open) == 0:
			return syntax(r.s.from+i, "text outside of the resource")
		default:
			f := invalid(r.s.from+i, codeStructure, "text is not allowed here")
			f.hint = "a value is given in the attribute value"
			return f
		}
	}
	return nil
}

// resource writes the resource whose start tag was read, up to and with its end.
func (r *reader) resource() *finding {
	s := &r.s
	sh, ok := resourceShape(s.local(s.name))
	if !ok {
		return r.inNamespace(invalid(s.from, codeStructure, "<%s> is no resource type of R4", s.text(s.name)))
	}
	if wrong := r.inNamespace(nil); wrong != nil {
		return wrong
	}
	if len(r.path) == 0 { // inner ones have the name of their element
		r.path = append(r.path, step{name: sh.typeName, index: -1})
		r.visited(s.from)
	}
	for _, a := range s.attrs {
		if !s.isDeclaration(a) && !r.isSchemaHint(a) {
			return r.unknownAttribute(a)
		}
	}
	r.out = append(r.out, `{"resourceType":"`...)
	r.out = append(r.out, sh.typeName...)
	r.out = append(r.out, '"')
	if wrong := r.members(sh); wrong != nil {
		return wrong
	}
	r.out = append(r.out, '}')
	return nil
}

// inNamespace refuses the element that was read when it is not FHIR's; otherwise
// the finding is otherwise.
func (r *reader) inNamespace(otherwise *finding) *finding {
	s := &r.s
	if s.namespace(s.prefix(s.name)) != Namespace {
		return invalid(s.from, codeStructure, "<%s> is not in the namespace %s", s.text(s.name), Namespace)
	}
	return otherwise
}

// isSchemaHint reports xsi:schemaLocation and the like, which say nothing about
// the resource; at the root only.
func (r *reader) isSchemaHint(a attribute) bool {
	p := r.s.prefix(a.name)
	if len(r.s.open) > 1 || len(p) == 0 || r.s.namespace(p) != schemaNamespace {
		return false
	}
	local := string(r.s.local(a.name))
	return local == "schemaLocation" || local == "noNamespaceSchemaLocation"
}

func (r *reader) unknownAttribute(a attribute) *finding {
	return invalid(a.from, codeStructure, "the attribute %s is not known here", r.s.text(a.name))
}

func (r *reader) visited(at int) {
	if r.visit != nil {
		r.visit(at)
	}
}

func (r *reader) visitedAttribute(name string, a attribute) {
	if r.visit != nil {
		r.path = append(r.path, step{name: name, index: -1})
		r.visit(a.from)
		r.path = r.path[:len(r.path)-1]
	}
}

// comma separates from what stands before in the same object or array.
func (r *reader) comma() {
	if n := len(r.out); n > 0 && r.out[n-1] != '{' && r.out[n-1] != '[' {
		r.out = append(r.out, ',')
	}
}

// run is the stretch of elements with one name that is being read.
type run struct {
	field  *field // nil before the first
	count  int
	start  int  // length of out before the member
	valued bool // an item of a list of primitives has a value

	siblings []byte // the list beside it, from its first object on
}

// members writes the members of the open element from its child elements, up to
// and with its end tag.
func (r *reader) members(sh *shape) *finding {
	var now run
	for {
		if wrong := r.content(); wrong != nil {
			return wrong
		}
		if r.s.kind == kindClose {
			r.finish(&now)
			return nil
		}
		if wrong := r.member(sh, &now); wrong != nil {
			return wrong
		}
	}
}

// member writes one child element.
func (r *reader) member(sh *shape, now *run) *finding {
	f, wrong := r.fieldOf(sh, now)
	if wrong != nil {
		return wrong
	}
	if f != now.field {
		r.finish(now)
		*now = run{field: f, start: len(r.out)}
		if f.array {
			r.comma()
			r.out = append(append(r.out, f.member...), '[')
		}
	}
	index := -1
	if f.array {
		index = now.count
	}
	now.count++
	r.path = append(r.path, step{name: f.name, index: index})
	r.visited(r.s.from)
	switch {
	case f.form.primitive() && f.array:
		wrong = r.primitiveItem(f, now)
	case f.form.primitive():
		wrong = r.primitive(f)
	default:
		wrong = r.value(f)
	}
	if wrong == nil {
		r.path = r.path[:len(r.path)-1]
	}
	return wrong
}

// fieldOf finds what the element that was read is, and refuses it where R4's order
// or number does not allow it.
func (r *reader) fieldOf(sh *shape, now *run) (*field, *finding) {
	s := &r.s
	local := s.local(s.name)
	f := sh.fields[string(local)]
	if f != nil && f.form == formNarrative {
		return f, nil // its namespace is another one
	}
	switch {
	case f == nil || f.form == formAttribute:
		return nil, r.inNamespace(invalid(s.from, codeStructure, "<%s> is not known in %s", local, sh.typeName))
	case now.field == nil || f == now.field && f.array || f.order > now.field.order:
		return f, r.inNamespace(nil)
	case f == now.field:
		return nil, r.inNamespace(invalid(s.from, codeStructure, "<%s> may be given once only", local))
	case f.order == now.field.order:
		return nil, r.inNamespace(invalid(s.from, codeStructure, "<%s> and <%s> exclude each other", now.field.name, local))
	}
	return nil, r.inNamespace(invalid(s.from, codeStructure, "<%s> must stand before <%s>", local, now.field.name))
}

// finish ends the list that is being written.
func (r *reader) finish(now *run) {
	f := now.field
	if f == nil || !f.array {
		return
	}
	if f.form.primitive() && !now.valued {
		r.out = r.out[:now.start]
	} else {
		r.out = append(r.out, ']')
	}
	if now.siblings == nil {
		return
	}
	r.comma()
	r.out = append(append(r.out, f.sibling...), '[')
	r.out = append(append(r.out, now.siblings...), ']')
}

// value writes a member or item that is no primitive.
func (r *reader) value(f *field) *finding {
	r.comma()
	if !f.array {
		r.out = append(r.out, f.member...)
	}
	switch f.form {
	case formNarrative:
		return r.narrative()
	case formResource:
		return r.wrapped()
	}
	at := r.s.from
	r.out = append(r.out, '{')
	start := len(r.out)
	if wrong := r.attributes(f.shape()); wrong != nil {
		return wrong
	}
	if wrong := r.members(f.shape()); wrong != nil {
		return wrong
	}
	if len(r.out) == start {
		return invalid(at, codeStructure, "<%s> is empty", f.name)
	}
	r.out = append(r.out, '}')
	return nil
}

// attributes writes the members that are attributes in XML.
func (r *reader) attributes(sh *shape) *finding {
	for _, a := range r.s.attrs {
		if r.s.isDeclaration(a) {
			continue
		}
		if f := sh.fields[string(r.s.text(a.name))]; f == nil || f.form != formAttribute {
			return r.unknownAttribute(a)
		}
	}
	for _, f := range sh.attrs {
		if a, ok := r.attribute(f.name); ok {
			r.comma()
			r.out = append(r.out, f.member...)
			r.quoted(a)
			r.visitedAttribute(f.name, a)
		}
	}
	return nil
}

func (r *reader) attribute(name string) (attribute, bool) {
	for _, a := range r.s.attrs {
		if string(r.s.text(a.name)) == name {
			return a, true
		}
	}
	return attribute{}, false
}

// quoted writes an attribute as a JSON string.
func (r *reader) quoted(a attribute) {
	raw := r.s.src[a.value:a.end]
	if !plainValue(raw) {
		r.scratch = appendValue(r.scratch[:0], raw)
		raw = r.scratch
	}
	r.out = appendQuoted(r.out, raw)
}

// primitive writes a primitive that does not repeat: its value and, beside it, its
// id and extensions.
func (r *reader) primitive(f *field) *finding {
	at := r.s.from
	value, ok := r.attribute("value")
	if ok {
		r.comma()
		r.out = append(r.out, f.member...)
		if wrong := r.primitiveValue(f, value); wrong != nil {
			return wrong
		}
	}
	if ok && r.plain() {
		return r.members(f.shape()) // to the end tag, there is nothing
	}
	start := len(r.out)
	r.comma()
	r.out = append(r.out, f.sibling...)
	has, wrong := r.sibling(f)
	switch {
	case wrong != nil:
		return wrong
	case !has && !ok:
		return invalid(at, codeStructure, "<%s> has neither value nor extension", f.name)
	case !has:
		r.out = r.out[:start]
	}
	return nil
}

// sibling writes the object that holds a primitive's id and extensions, and
// reports whether there are any. If not, what was written is to be taken back.
func (r *reader) sibling(f *field) (bool, *finding) {
	r.out = append(r.out, '{')
	start := len(r.out)
	for _, a := range r.s.attrs {
		switch {
		case r.s.isDeclaration(a) || string(r.s.text(a.name)) == "value":
		case string(r.s.text(a.name)) == "id":
			r.out = append(r.out, `"id":`...)
			r.quoted(a)
			r.visitedAttribute("id", a)
		default:
			return false, r.unknownAttribute(a)
		}
	}
	if wrong := r.members(f.shape()); wrong != nil {
		return false, wrong
	}
	has := len(r.out) > start
	r.out = append(r.out, '}')
	return has, nil
}

// primitiveItem writes one item of a list of primitives to the two lists that
// JSON has for it.
func (r *reader) primitiveItem(f *field, now *run) *finding {
	at := r.s.from
	value, ok := r.attribute("value")
	r.comma()
	if ok {
		now.valued = true
		if wrong := r.primitiveValue(f, value); wrong != nil {
			return wrong
		}
	} else {
		r.out = append(r.out, "null"...)
	}
	has, wrong := r.siblingItem(f, now)
	if wrong != nil {
		return wrong
	}
	if !has && !ok {
		return invalid(at, codeStructure, "<%s> has neither value nor extension", f.name)
	}
	return nil
}

// siblingItem writes the item's place in the second list, which begins to be when
// it has its first object.
func (r *reader) siblingItem(f *field, now *run) (bool, *finding) {
	if r.plain() {
		wrong := r.members(f.shape()) // to the end tag, there is nothing
		if now.siblings != nil {
			now.siblings = append(now.siblings, ",null"...)
		}
		return false, wrong
	}
	outer := r.out
	r.out = now.siblings
	start := len(r.out)
	for i := 0; start == 0 && i < now.count-1; i++ {
		r.out = append(r.out, "null,"...)
	}
	if start > 0 {
		r.out = append(r.out, ',')
	}
	object := len(r.out)
	has, wrong := r.sibling(f)
	switch {
	case !has && start == 0:
		r.out = nil
	case !has:
		r.out = append(r.out[:object], "null"...)
	}
	now.siblings, r.out = r.out, outer
	return has, wrong
}

// plain reports whether the element that was read is empty and has no attribute
// but value: most items are.
func (r *reader) plain() bool {
	if !r.s.empty {
		return false
	}
	for _, a := range r.s.attrs {
		if !r.s.isDeclaration(a) && string(r.s.text(a.name)) != "value" {
			return false
		}
	}
	return true
}

// wrapped writes the resource inside the element that was read.
func (r *reader) wrapped() *finding {
	at := r.s.from
	for _, a := range r.s.attrs {
		if !r.s.isDeclaration(a) {
			return r.unknownAttribute(a)
		}
	}
	if wrong := r.content(); wrong != nil {
		return wrong
	}
	if r.s.kind == kindClose {
		return invalid(at, codeStructure, "a resource is expected in it")
	}
	if wrong := r.resource(); wrong != nil {
		return wrong
	}
	if wrong := r.content(); wrong != nil {
		return wrong
	}
	if r.s.kind != kindClose {
		return invalid(r.s.from, codeStructure, "one resource only may stand here")
	}
	return nil
}

// narrative writes a div as a JSON string.
func (r *reader) narrative() *finding {
	outer := len(r.s.bindings)
	for outer > 0 && r.s.bindings[outer-1].depth == len(r.s.open) {
		outer--
	}
	n := narrative{s: &r.s, out: r.scratch[:0], outer: outer, text: toJSONText}
	wrong := n.copy()
	r.scratch = n.out
	if wrong != nil {
		return wrong
	}
	r.out = appendQuoted(r.out, n.out)
	return nil
}

// primitiveValue writes an attribute's text as the JSON value of a primitive.
func (r *reader) primitiveValue(f *field, a attribute) *finding {
	if f.form == formString {
		r.quoted(a)
		return nil
	}
	text := r.s.src[a.value:a.end]
	if !plainValue(text) {
		r.scratch = appendValue(r.scratch[:0], text)
		text = r.scratch
	}
	if f.form == formInteger && len(text) > 1 && text[0] == '+' && text[1] != '-' {
		text = text[1:] // R4's integers may have a sign that JSON's numbers may not
	}
	ok := isNumber(text)
	if f.form == formBoolean {
		ok = string(text) == "true" || string(text) == "false"
	}
	if !ok {
		return invalid(a.value, codeValue, "%s is no %s", strconv.Quote(string(text[:min(len(text), maxShown)])), f.typeName)
	}
	r.out = append(r.out, text...)
	return nil
}

// maxShown bounds what a message repeats of a value.
const maxShown = 40

// isNumber reports whether JSON can write text as a number (RFC 8259, section 6),
// which is what R4's decimals look like too.
func isNumber(text []byte) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	whole := digits(text)
	if whole == 0 || whole > 1 && text[0] == '0' {
		return false
	}
	text = text[whole:]
	if len(text) > 0 && text[0] == '.' {
		n := digits(text[1:])
		if n == 0 {
			return false
		}
		text = text[1+n:]
	}
	if len(text) > 0 && text[0]|0x20 == 'e' {
		text = text[1:]
		if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
			text = text[1:]
		}
		n := digits(text)
		return n > 0 && n == len(text)
	}
	return len(text) == 0
}

func digits(text []byte) int {
	n := 0
	for n < len(text) && text[n]-'0' <= 9 {
		n++
	}
	return n
}
