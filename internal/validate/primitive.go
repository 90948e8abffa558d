package validate

import (
	"bytes"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// primitive is a primitive type of R4 (http://hl7.org/fhir/R4/datatypes.html#primitive).
type primitive uint8

const (
	primitiveBoolean primitive = iota
	primitiveInteger
	primitiveUnsignedInt
	primitivePositiveInt
	primitiveDecimal
	primitiveString
	primitiveMarkdown
	primitiveCode
	primitiveID
	primitiveURI
	primitiveURL
	primitiveCanonical
	primitiveOID
	primitiveUUID
	primitiveDate
	primitiveDateTime
	primitiveInstant
	primitiveTime
	primitiveBase64
	primitiveXHTML
	primitiveReference // Reference.reference: a string that is a uri
)

var primitives = map[string]primitive{
	"boolean": primitiveBoolean, "integer": primitiveInteger, "unsignedInt": primitiveUnsignedInt,
	"positiveInt": primitivePositiveInt, "decimal": primitiveDecimal, "string": primitiveString,
	"markdown": primitiveMarkdown, "code": primitiveCode, "id": primitiveID, "uri": primitiveURI,
	"url": primitiveURL, "canonical": primitiveCanonical, "oid": primitiveOID, "uuid": primitiveUUID,
	"date": primitiveDate, "dateTime": primitiveDateTime, "instant": primitiveInstant, "time": primitiveTime,
	"base64Binary": primitiveBase64, "xhtml": primitiveXHTML,
}

// jsonKind is what JSON writes a primitive as.
func (p primitive) jsonKind() fhir.Kind {
	switch p {
	case primitiveBoolean:
		return fhir.Bool
	case primitiveInteger, primitiveUnsignedInt, primitivePositiveInt, primitiveDecimal:
		return fhir.Number
	}
	return fhir.String
}

// maxString is the most characters of a string (R4 datatypes.html#string: 1 MB,
// 1024*1024 characters).
const maxString = 1 << 20

// primitive checks one value and what its element asks of it.
func (w *walk) primitive(sl *slot, n fhir.Node) int32 {
	kind, want := n.Kind(), sl.primitive.jsonKind()
	switch {
	case kind == fhir.Object || kind == fhir.Array || kind == fhir.Null:
		w.fail(n, codeStructure, "This property must be an simple value, not %s", a(kind))
		return w.skip(n)
	case kind != want:
		w.fail(n, codeStructure, "Error parsing JSON: the primitive value must be a %s, not %s", want, a(kind))
		return n.Ref() + 1
	case kind == fhir.String && len(n.Raw()) == len(`""`):
		w.fail(n, codeValue, "Attribute value cannot be empty")
		return n.Ref() + 1
	}
	text := n.TextBytes()
	if fault := sl.primitive.fault(n, text); fault != "" {
		if sl.primitive == primitiveXHTML {
			w.fail(n, codeInvariant, "%s", fault)
		} else {
			w.fail(n, codeValue, "Not a valid %s ('%s'): %s", sl.element.Type, quote(text), fault)
		}
		return n.Ref() + 1
	}
	w.meaning(sl, n, text)
	return n.Ref() + 1
}

// meaning checks a well-formed value against its element.
func (w *walk) meaning(sl *slot, n fhir.Node, text []byte) {
	if sl.codes != nil && !sl.codes.has(text) {
		w.fail(n, codeBinding, "The value provided ('%s') is not in the value set %s, and a code is required from this value set",
			quote(text), sl.element.Binding.ValueSet)
		return
	}
	if text[0] == '#' && sl.primitive.isReference() {
		w.local(sl, n, text[1:])
	}
	if len(sl.rules) > 0 && w.level != Minimal {
		w.applyRules(sl.rules, sl.element.Type, 0, n)
	}
}

// isReference reports whether a value may name a contained resource.
func (p primitive) isReference() bool {
	switch p {
	case primitiveReference, primitiveURI, primitiveURL, primitiveCanonical:
		return true
	}
	return false
}

// fault is what is wrong with a value, "" when nothing is.
func (p primitive) fault(n fhir.Node, text []byte) string {
	switch p {
	case primitiveBoolean, primitiveDecimal: // JSON's grammar is R4's
		return ""
	case primitiveInteger, primitiveUnsignedInt, primitivePositiveInt:
		return p.integerFault(n)
	case primitiveString, primitiveMarkdown:
		return stringFault(n, text)
	case primitiveXHTML:
		return narrativeFault(text)
	case primitiveBase64:
		return base64Fault(text)
	case primitiveDate, primitiveDateTime, primitiveInstant, primitiveTime:
		return p.momentFault(text)
	}
	return p.wordFault(text)
}

func (p primitive) wordFault(text []byte) string {
	switch p {
	case primitiveID:
		if !validID(text) {
			return "1 to 64 letters, digits, '-' and '.' are allowed"
		}
	case primitiveCode:
		return codeFault(text)
	case primitiveOID:
		if !validOID(text) {
			return "an OID is written urn:oid:1.2.3"
		}
	case primitiveUUID:
		if !validUUID(text) {
			return "a UUID is written urn:uuid: and 32 lower-case hexadecimal digits in groups"
		}
	default:
		if hasSpace(text) {
			return "URIs cannot have white space"
		}
	}
	return ""
}

// integerFault checks the 32 bits of R4's integers, and that no fraction or
// exponent is written.
func (p primitive) integerFault(n fhir.Node) string {
	v, ok := n.Int()
	if !ok || v < -1<<31 || v > 1<<31-1 {
		return "a whole number of 32 bits, written without fraction and exponent, is expected"
	}
	switch {
	case p == primitivePositiveInt && v < 1:
		return "it must be greater than 0"
	case p == primitiveUnsignedInt && (v < 0 || n.Raw()[0] == '-'):
		return "it must not be negative"
	}
	return ""
}

// stringFault refuses control characters, which only an escape can have
// brought, and too many characters.
func stringFault(n fhir.Node, text []byte) string {
	if len(text) > maxString && utf8.RuneCount(text) > maxString {
		return "it has more than 1,048,576 characters"
	}
	if len(text) != len(n.Raw())-2 { // something was escaped
		for _, c := range text {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return "control characters are not allowed"
			}
		}
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func hasSpace(text []byte) bool {
	for _, c := range text {
		if c <= ' ' {
			return true
		}
	}
	return false
}

// codeFault follows [^\s]+(\s[^\s]+)*.
func codeFault(text []byte) string {
	space := true
	for _, c := range text {
		switch {
		case c < ' ' && !isSpace(c):
			return "control characters are not allowed"
		case c > ' ':
			space = false
		case space:
			return "a code has no white space at its ends and no two blanks together"
		default:
			space = true
		}
	}
	if space {
		return "a code has no white space at its ends and no two blanks together"
	}
	return ""
}

// maxID is the longest id (R4 datatypes.html#id).
const maxID = 64

func validID(text []byte) bool {
	if len(text) == 0 || len(text) > maxID {
		return false
	}
	for _, c := range text {
		if !isLetter(c) && !isDigit(c) && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c-'0' <= 9 }

// validOID follows urn:oid:[0-2](\.(0|[1-9][0-9]*))+.
func validOID(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("urn:oid:"))
	if !ok || len(rest) < 3 || rest[0] < '0' || rest[0] > '2' {
		return false
	}
	for rest = rest[1:]; len(rest) > 0; {
		if rest[0] != '.' {
			return false
		}
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		if n == 1 || n > 2 && rest[1] == '0' {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// validUUID follows urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-…{4}-…{4}-…{12}.
func validUUID(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte("urn:uuid:"))
	if !ok || len(rest) != 36 {
		return false
	}
	for i, c := range rest {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// base64Fault takes white space anywhere (R4 allows it between groups of four;
// encoders break lines elsewhere too) and padding at the end only.
func base64Fault(text []byte) string {
	digits, padding := 0, 0
	for _, c := range text {
		switch {
		case isLetter(c) || isDigit(c) || c == '+' || c == '/':
			if padding > 0 {
				return "'=' stands at the end only"
			}
			digits++
		case c == '=':
			padding++
		case !isSpace(c):
			return "a character that base64 does not have"
		}
	}
	if padding > 2 || digits == 0 || (digits+padding)%4 != 0 {
		return "its length is no multiple of 4"
	}
	return ""
}
