package xml_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/xml"
)

const declared = `<?xml version="1.0" encoding="UTF-8"?>`

// in puts content into a Patient in XML.
func in(content string) string {
	return `<Patient xmlns="http://hl7.org/fhir">` + content + `</Patient>`
}

// div is a Patient's narrative in XML with this content.
func div(content string) string {
	return in(`<text><div xmlns="http://www.w3.org/1999/xhtml">` + content + `</div></text>`)
}

// Both directions: the XML is what AppendXML writes for the JSON, and the JSON
// what ToJSON makes of the XML.
var pairs = []struct{ name, json, xml string }{
	{"nothing in it", `{"resourceType":"Patient"}`, `<Patient xmlns="http://hl7.org/fhir"/>`},
	{"primitives", `{"resourceType":"Patient","id":"p","active":true,"gender":"other","multipleBirthInteger":2}`,
		in(`<id value="p"/><active value="true"/><gender value="other"/><multipleBirthInteger value="2"/>`)},
	{"lists of one and more", `{"resourceType":"Patient","name":[{"family":"A","given":["B","C"]},{"family":"D"}]}`,
		in(`<name><family value="A"/><given value="B"/><given value="C"/></name><name><family value="D"/></name>`)},
	{"id of an element is an attribute, of a resource an element", `{"resourceType":"Patient","id":"r","name":[{"id":"e","family":"A"}]}`,
		in(`<id value="r"/><name id="e"><family value="A"/></name>`)},
	{"extension beside a value", `{"resourceType":"Patient","birthDate":"1970","_birthDate":{"id":"b","extension":[{"url":"u","valueTime":"12:00:00"}]}}`,
		in(`<birthDate id="b" value="1970"><extension url="u"><valueTime value="12:00:00"/></extension></birthDate>`)},
	{"extension without value", `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u","valueCode":"c"}]}}`,
		in(`<birthDate><extension url="u"><valueCode value="c"/></extension></birthDate>`)},
	{"gaps in both lists", `{"resourceType":"Patient","name":[{"given":["A",null,"C"],"_given":[null,{"extension":[{"url":"u","valueCode":"c"}]},{"id":"i"}]}]}`,
		in(`<name><given value="A"/><given><extension url="u"><valueCode value="c"/></extension></given><given id="i" value="C"/></name>`)},
	{"a gap behind the last extension", `{"resourceType":"Patient","name":[{"given":["A","B","C"],"_given":[{"id":"i"},null,null]}]}`,
		in(`<name><given id="i" value="A"/><given value="B"/><given value="C"/></name>`)},
	{"a list without values", `{"resourceType":"Patient","name":[{"family":"F","_given":[{"id":"i"},{"id":"j"}]}]}`,
		in(`<name><family value="F"/><given id="i"/><given id="j"/></name>`)},
	{"an extension's extension inside a list", `{"resourceType":"Patient","name":[{"given":["A"],"_given":[{"extension":[{"url":"u","valueHumanName":{"given":["B","C"],"_given":[null,{"id":"k"}]}}]}]}]}`,
		in(`<name><given value="A"><extension url="u"><valueHumanName><given value="B"/><given id="k" value="C"/></valueHumanName></extension></given></name>`)},
	{"extension of the resource's id", `{"resourceType":"Patient","id":"a","_id":{"extension":[{"url":"u","valueCode":"c"}]}}`,
		in(`<id value="a"><extension url="u"><valueCode value="c"/></extension></id>`)},
	{"decimals as written", `{"resourceType":"Observation","component":[{"valueQuantity":{"value":1.10}},{"valueQuantity":{"value":-0.0E+2}},{"valueQuantity":{"value":123456789012345678901234567890.50}}]}`,
		`<Observation xmlns="http://hl7.org/fhir"><component><valueQuantity><value value="1.10"/></valueQuantity></component><component><valueQuantity><value value="-0.0E+2"/></valueQuantity></component>` +
			`<component><valueQuantity><value value="123456789012345678901234567890.50"/></valueQuantity></component></Observation>`},
	{"resources inside", `{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o"},{"resourceType":"Basic"}]}`,
		in(`<contained><Organization><id value="o"/></Organization></contained><contained><Basic/></contained>`)},
	{"bundle", `{"resourceType":"Bundle","entry":[{"fullUrl":"urn:a","resource":{"resourceType":"Patient","active":false},"search":{"mode":"match"}}]}`,
		`<Bundle xmlns="http://hl7.org/fhir"><entry><fullUrl value="urn:a"/><resource><Patient><active value="false"/></Patient></resource><search><mode value="match"/></search></entry></Bundle>`},
	{"parameters", `{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","resource":{"resourceType":"Basic"}},{"name":"c","valueInteger":-1}]}]}`,
		`<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="a"/><part><name value="b"/><resource><Basic/></resource></part><part><name value="c"/><valueInteger value="-1"/></part></parameter></Parameters>`},
	{"a backbone in itself", `{"resourceType":"Questionnaire","item":[{"linkId":"1","item":[{"linkId":"1.1"}]}]}`,
		`<Questionnaire xmlns="http://hl7.org/fhir"><item><linkId value="1"/><item><linkId value="1.1"/></item></item></Questionnaire>`},
	{"characters", `{"resourceType":"Patient","language":"<&>\"'\t\n\r é𝄞 "}`,
		in(`<language value="&lt;&amp;>&quot;'&#x9;&#xA;&#xD; é𝄞 "/>`)},
	{"an empty value is for validation to judge", `{"resourceType":"Patient","language":""}`, in(`<language value=""/>`)},
	{"narrative", `{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\" class='a'>\n <p>&lt;&#39; <br/>\t<!-- c --> <![CDATA[&]]></p> </div>"}}`,
		in(`<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml" class='a'>` + "\n <p>&lt;&#39; <br/>\t<!-- c --> <![CDATA[&]]></p> </div></text>")},
	{"carriage return in a narrative", `{"resourceType":"Patient","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\" title=\"a\rb\">a\r\nb</div>"}}`,
		in("<text><div xmlns=\"http://www.w3.org/1999/xhtml\" title=\"a&#xD;b\">a&#xD;\nb</div></text>")},
}

func TestBothDirections(t *testing.T) {
	for _, c := range pairs {
		t.Run(c.name, func(t *testing.T) {
			text, err := xml.ToJSON([]byte(c.xml), fhir.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != c.json {
				t.Errorf("ToJSON:\n%s\nwant\n%s", text, c.json)
			}
			back, err := xml.AppendXML([]byte("-"), parse(t, []byte(c.json)))
			if err != nil {
				t.Fatal(err)
			}
			if string(back) != "-"+declared+c.xml {
				t.Errorf("AppendXML:\n%s\nwant\n%s", back, c.xml)
			}
		})
	}
}

// What XML may say in several ways.
func TestToJSON(t *testing.T) {
	for _, c := range []struct{ name, xml, json string }{
		{"comments, instructions and white space", "\ufeff" + declared + "\r\n<!-- a -->\n<?b c?>\n" + in("\n <!--d--><active value='true' >\n<?e?> </active > ") + "\n<!--f-->",
			`{"resourceType":"Patient","active":true}`},
		{"other declarations", `<?xml version='1.0' encoding='utf-8' standalone="yes" ?>` + in(""), `{"resourceType":"Patient"}`},
		{"prefixes", `<f:Patient xmlns:f="http://hl7.org/fhir"><f:active value="true"/></f:Patient>`, `{"resourceType":"Patient","active":true}`},
		{"namespaces again and other ones", `<Patient xmlns="http://hl7.org/fhir" xmlns:x="urn:x"><active xmlns="http://hl7.org/fhir" value="true"/></Patient>`,
			`{"resourceType":"Patient","active":true}`},
		{"schema location", `<Patient xmlns="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b"/>`,
			`{"resourceType":"Patient"}`},
		{"references", in(`<language value="&#65;&#x42;&apos;&gt;&#x1d11e;"/>`), `{"resourceType":"Patient","language":"AB'>𝄞"}`},
		{"white space in a value", in("<language value='a\tb\r\nc\rd\ne'/>"), `{"resourceType":"Patient","language":"a b c d e"}`},
		{"a plus sign", in(`<multipleBirthInteger value="+3"/>`), `{"resourceType":"Patient","multipleBirthInteger":3}`},
		{"a number in references", in(`<multipleBirthInteger value="&#49;2"/>`), `{"resourceType":"Patient","multipleBirthInteger":12}`},
		{"attributes in any order", in(`<extension url="u" id="i"/>`), `{"resourceType":"Patient","extension":[{"id":"i","url":"u"}]}`},
		{"line ends of a narrative", div("a\r\nb\rc<br\r\n/>"),
			`{"resourceType":"Patient","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a\nb\nc<br\n/></div>"}}`},
		{"a narrative with a prefix from outside", `<Patient xmlns="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><text><h:div><h:p h2='1'>a</h:p ><h:br/></h:div></text></Patient>`,
			`{"resourceType":"Patient","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p h2='1'>a</p ><br/></div>"}}`},
		{"XHTML is the default", `<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div><p>a</p></div></f:text></f:Patient>`,
			`{"resourceType":"Patient","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>a</p></div>"}}`},
		{"a narrative with a prefix of its own", in(`<text><h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:p xml:lang="de">a</h:p></h:div></text>`),
			`{"resourceType":"Patient","text":{"div":"<h:div xmlns=\"http://www.w3.org/1999/xhtml\" xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:p xml:lang=\"de\">a</h:p></h:div>"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := xml.ToJSON([]byte(c.xml), fhir.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != c.json {
				t.Errorf("got  %s\nwant %s", text, c.json)
			}
		})
	}
}

func TestToJSONRefuses(t *testing.T) {
	structure, syntax := "invalid structure", "syntax "
	for _, c := range []struct{ xml, kind, detail, expression, at string }{
		// not well-formed
		{"", syntax, "the text has no element", "", "1:1"},
		{"Patient", syntax, "text outside", "", "1:1"},
		{"<Patient", syntax, "ends inside a tag", "", "1:9"},
		{in("<active>"), syntax, "</Patient> stands where </active> is expected", "", "1:46"},
		{"<Patient xmlns='http://hl7.org/fhir'>\n <é", syntax, "ends inside a tag", "", "2:4"},
		{"<Patient xmlns='http://hl7.org/fhir'>", syntax, "the text ends early, <Patient> is open", "", "1:38"},
		{in("") + in(""), syntax, "a second element", "", "1:48"},
		{in("") + "x", syntax, "text outside", "", "1:48"},
		{in(`<active value="true" value="true"/>`), syntax, "given twice", "", "1:59"},
		{in(`<active value=true/>`), syntax, "in quotes", "", "1:52"},
		{in(`<active value="<"/>`), syntax, "&lt;", "", "1:53"},
		{in(`<active value="a"id="b"/>`), syntax, "white space, > or />", "", "1:55"},
		{in(`<language value="é&b"/>`), syntax, "& begins no reference", "", "1:56"},
		{in(`<language value="&nbsp;"/>`), syntax, "XML knows no &nbsp;", "", "1:55"},
		{in(`<language value="&#0;"/>`), syntax, "XML knows no &#0;", "", "1:55"},
		{in(`<language value="&#xD800;"/>`), syntax, "XML knows no", "", "1:55"},
		{in(`<language value="&#99999999999999999999;"/>`), syntax, "XML knows no", "", "1:55"},
		{in("<language value=\"\x01\"/>"), syntax, "U+0001", "", "1:55"},
		{in("<language value=\"\xff\"/>"), syntax, "not UTF-8", "", "1:55"},
		{in("<language value=\"\uffff\"/>"), syntax, "not allowed in XML", "", "1:55"},
		{in("<!-- a -- b -->"), syntax, "-- must not stand", "", "1:45"},
		{in("<!-- a"), syntax, "a comment does not end", "", "1:38"},
		{in("]]>"), syntax, "]]>", "", "1:38"},
		{in("<?xml version='1.0'?>"), syntax, "at the beginning only", "", "1:38"},
		{in("<![CDATA[a]]>"), structure, "text is not allowed", "Patient", "1:38"},
		{`<!DOCTYPE a [<!ENTITY b "c">]>` + in(""), syntax, "document type declaration", "", "1:1"},
		{`<?xml version="1.1"?>` + in(""), syntax, "only XML 1.0", "", "1:16"},
		{`<?xml version="1.0" encoding="latin1"?>` + in(""), syntax, "only the encoding UTF-8", "", "1:31"},
		{`<?xml encoding="utf-8"?>` + in(""), syntax, "malformed", "", "1:7"},
		{"<a:Patient/>", syntax, "nothing declares the prefix a", "", "1:2"},
		{`<Patient xmlns="http://hl7.org/fhir" xmlns:a="urn:b" xmlns:b="urn:b" a:x="" b:x=""/>`, syntax, "given twice", "", "1:77"},
		{`<Patient xmlns="http://hl7.org/fhir" xmlns:a=""/>`, syntax, "must be bound", "", "1:38"},
		{`<Patient xmlns="http://www.w3.org/XML/1998/namespace"/>`, syntax, "cannot be bound", "", "1:10"},
		{`<a:b:c/>`, syntax, "no qualified name", "", "1:2"},

		// not FHIR's
		{"<Patient/>", structure, "not in the namespace http://hl7.org/fhir", "", "1:1"},
		{`<Patient xmlns="urn:hl7-org:v3"/>`, structure, "not in the namespace", "", "1:1"},
		{`<Resource xmlns="http://hl7.org/fhir"/>`, structure, "<Resource> is no resource type", "", "1:1"},
		{`<HumanName xmlns="http://hl7.org/fhir"/>`, structure, "<HumanName> is no resource type", "", "1:1"},
		{`<Patient xmlns="http://hl7.org/fhir" id="a"/>`, structure, "the attribute id is not known here", "Patient", "1:38"},
		{in(`<name><colour value="red"/></name>`), structure, "<colour> is not known in HumanName", "Patient.name[0]", "1:44"},
		{in(`<active xmlns="urn:x" value="true"/>`), structure, "not in the namespace", "Patient", "1:38"},
		{in(`<active value="true" xml:lang="en"/>`), structure, "the attribute xml:lang is not known", "Patient.active", "1:59"},
		{in(`<name value="a"/>`), structure, "the attribute value is not known", "Patient.name[0]", "1:44"},
		{in(`<active value="true"><active value="true"/></active>`), structure, "not known in boolean", "Patient.active", "1:59"},
		{in(`<active>true</active>`), structure, "text is not allowed here", "Patient.active", "1:46"},
		{in(`<active value="true"/><active value="true"/>`), structure, "once only", "Patient", "1:60"},
		{in("\n<gender value='male'/>\n  <active value='true'/>"), structure, "<active> must stand before <gender>", "Patient", "3:3"},
		{in(`<name id="a"/><gender value="male"/><name id="b"/>`), structure, "must stand before", "Patient", "1:74"},
		{in(`<multipleBirthBoolean value="true"/><multipleBirthInteger value="1"/>`), structure, "exclude each other", "Patient", "1:74"},
		{in(`<name/>`), structure, "<name> is empty", "Patient.name[0]", "1:38"},
		{in(`<name> <!-- --> </name>`), structure, "<name> is empty", "Patient.name[0]", "1:38"},
		{in(`<name><given value="a"/><given/></name>`), structure, "neither value nor extension", "Patient.name[0].given[1]", "1:62"},
		{in(`<active/>`), structure, "neither value nor extension", "Patient.active", "1:38"},
		{in(`<contained/>`), structure, "a resource is expected", "Patient.contained[0]", "1:38"},
		{in(`<contained><Basic/><Basic/></contained>`), structure, "one resource only", "Patient.contained[0]", "1:57"},
		{in(`<contained><Basic/></contained><contained><Basic><code/></Basic></contained>`), structure, "empty", "Patient.contained[1].code", "1:87"},
		{in(`<url value="a"/>`), structure, "not known in Patient", "Patient", "1:38"},
		{in(`<extension><url value="a"/></extension>`), structure, "<url> is not known in Extension", "Patient.extension[0]", "1:49"},
		{in(`<active value="1"/>`), "invalid value", `"1" is no boolean`, "Patient.active", "1:53"},
		{in(`<multipleBirthInteger value="01"/>`), "invalid value", `"01" is no integer`, "Patient.multipleBirthInteger", "1:67"},
		{in(`<multipleBirthInteger value=""/>`), "invalid value", `"" is no integer`, "Patient.multipleBirthInteger", "1:67"},
		{in(`<multipleBirthInteger value=" 1"/>`), "invalid value", `" 1" is no integer`, "Patient.multipleBirthInteger", "1:67"},
		{in(`<text><div>a</div></text>`), structure, "a narrative is a <div> in the namespace", "Patient.text.div", "1:44"},
		{in(`<text><p xmlns="http://www.w3.org/1999/xhtml"/></text>`), structure, "<p> is not in the namespace http://hl7.org/fhir", "Patient.text", "1:44"},
		{div("<p>&nbsp;</p>"), syntax, "XML knows no &nbsp;", "", "1:89"},
		{`<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div><f:p/></div></f:text></f:Patient>`,
			structure, "<f:p> is not in the namespace http://www.w3.org/1999/xhtml", "Patient.text.div", "1:92"},
	} {
		text, err := xml.ToJSON([]byte(c.xml), fhir.Limits{})
		e, ok := errors.AsType[*fault.Error](err)
		if !ok {
			t.Errorf("%s: got %s, %v", c.xml, text, err)
			continue
		}
		p := e.Place[0]
		got := fmt.Sprintf("%s %s | %s | %s | %d:%d", e.Kind, p.Code, p.Detail, p.Expression, p.Line, p.Col)
		want := fmt.Sprintf("%s | %s | %s | %s", c.kind, c.detail, c.expression, c.at)
		if !strings.HasPrefix(got, c.kind) || !strings.Contains(p.Detail, c.detail) || !strings.HasSuffix(got, " | "+c.expression+" | "+c.at) {
			t.Errorf("%s:\ngot  %s\nwant %s", c.xml, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := func(n int) string {
		return in(strings.Repeat(`<extension url="u">`, n-1) + strings.Repeat(`</extension>`, n-1))
	}
	for _, c := range []struct {
		name, xml string
		limits    fhir.Limits
		kind      fault.Kind
	}{
		{"length", in(""), fhir.Limits{MaxBytes: len(in("")) - 1}, fault.TooLarge},
		{"depth", deep(5), fhir.Limits{MaxDepth: 4}, fault.Syntax},
		{"depth of a narrative", div("<p><b/></p>"), fhir.Limits{MaxDepth: 4}, fault.Syntax},
		{"nodes", in(`<active value="true"/>`), fhir.Limits{MaxNodes: 3}, fault.TooLarge},
		{"nodes of comments", in(`<!----><!----><!---->`), fhir.Limits{MaxNodes: 4}, fault.TooLarge},
		{"attributes", div("<p" + attributes(129) + "/>"), fhir.Limits{}, fault.TooLarge},
	} {
		if _, err := xml.ToJSON([]byte(c.xml), c.limits); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
		}
		wider := fhir.Limits{MaxBytes: c.limits.MaxBytes + 1, MaxDepth: c.limits.MaxDepth + 1, MaxNodes: c.limits.MaxNodes + 1}
		if c.limits == (fhir.Limits{}) {
			continue
		}
		if wider.MaxBytes == 1 {
			wider.MaxBytes = 0
		}
		if wider.MaxDepth == 1 {
			wider.MaxDepth = 0
		}
		if wider.MaxNodes == 1 {
			wider.MaxNodes = 0
		}
		if _, err := xml.ToJSON([]byte(c.xml), wider); err != nil {
			t.Errorf("%s, one more: %v", c.name, err)
		}
	}
	if _, err := xml.ToJSON([]byte(div("<p"+attributes(128)+"/>")), fhir.Limits{}); err != nil {
		t.Error(err)
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d=''", i)
	}
	return b.String()
}

// What JSON may say in several ways, or not quite right.
func TestAppendXML(t *testing.T) {
	narrative := func(text string) string {
		return `{"resourceType":"Patient","text":{"div":"` + text + `"}}`
	}
	for _, c := range []struct{ name, json, xml string }{
		{"members in any order", `{"active":true,"name":[{"given":["b"],"id":"i","family":"f"}],"id":"a","resourceType":"Patient"}`,
			in(`<id value="a"/><active value="true"/><name id="i"><family value="f"/><given value="b"/></name>`)},
		{"escaped names", `{"resourceType":"Patient","\u0061ctive":true}`, in(`<active value="true"/>`)},
		{"lists of different length", `{"resourceType":"Patient","name":[{"given":["a"],"_given":[null,{"id":"b"}]}]}`,
			in(`<name><given value="a"/><given id="b"/></name>`)},
		{"HTML's names of characters", narrative(`<div xmlns='http://www.w3.org/1999/xhtml' title='&eacute;'>&nbsp;&amp;<!--&nbsp;-->&#xD;</div>`),
			in(`<text><div xmlns='http://www.w3.org/1999/xhtml' title='&#233;'>&#160;&amp;<!--&nbsp;-->&#13;</div></text>`)},
		{"no namespace", narrative(`<div><p>a</p></div>`), in(`<text><div xmlns="http://www.w3.org/1999/xhtml"><p>a</p></div></text>`)},
		{"white space around", narrative(` <div><br/></div>\r\n`), in(`<text><div xmlns="http://www.w3.org/1999/xhtml"><br/></div></text>`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := xml.AppendXML(nil, parse(t, []byte(c.json)))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimPrefix(string(text), declared); got != c.xml {
				t.Errorf("got  %s\nwant %s", got, c.xml)
			}
		})
	}
}

func TestAppendXMLRefuses(t *testing.T) {
	for _, c := range []struct{ json, detail, expression string }{
		{`[]`, "a resource must be an object, not an array", ""},
		{`{}`, "needs its resourceType", ""},
		{`{"resourceType":5}`, "needs its resourceType", ""},
		{`{"resourceType":"Element"}`, `"Element" is no resource type`, "Element.resourceType"},
		{`{"resourceType":"Patient","colour":"red"}`, "colour is not known in Patient", "Patient.colour"},
		{`{"resourceType":"Patient","a b":1}`, "a b is not known", "Patient.`a b`"},
		{`{"resourceType":"Patient","_name":[{"id":"a"}]}`, "_name is not known", "Patient.name"},
		{`{"resourceType":"Patient","name":[{"resourceType":"Patient"}]}`, "resourceType is not known in HumanName", "Patient.name[0].resourceType"},
		{`{"resourceType":"Patient","multipleBirth":1}`, "multipleBirth is not known", "Patient.multipleBirth"},
		{`{"resourceType":"Patient","extension":[{"url":"a","_url":{"id":"b"}}]}`, "_url is not known", "Patient.extension[0].url"},
		{`{"resourceType":"Patient","name":{"family":"a"}}`, "name must be an array, not an object", "Patient.name"},
		{`{"resourceType":"Patient","name":[]}`, "name is empty", "Patient.name"},
		{`{"resourceType":"Patient","name":[{}]}`, "name is empty", "Patient.name[0]"},
		{`{"resourceType":"Patient","name":[null]}`, "name must be an object, not a null", "Patient.name[0]"},
		{`{"resourceType":"Patient","active":[true]}`, "active must be a boolean, not an array", "Patient.active"},
		{`{"resourceType":"Patient","active":"true"}`, "active must be a boolean, not a string", "Patient.active"},
		{`{"resourceType":"Patient","active":null,"_active":{"id":"a"}}`, "must not be null", "Patient.active"},
		{`{"resourceType":"Patient","_active":null}`, "neither value nor extension", "Patient.active"},
		{`{"resourceType":"Patient","_active":{}}`, "_active must hold an object with", "Patient.active"},
		{`{"resourceType":"Patient","_active":{"value":true}}`, "value is not known in boolean", "Patient.active.value"},
		{`{"resourceType":"Patient","name":[{"given":[null]}]}`, "neither value nor extension", "Patient.name[0].given[0]"},
		{`{"resourceType":"Patient","name":[{"given":["a"],"_given":{}}]}`, "must be an array", "Patient.name[0].given"},
		{`{"resourceType":"Patient","birthDate":1970}`, "birthDate must be a string, not a number", "Patient.birthDate"},
		{`{"resourceType":"Patient","multipleBirthInteger":"1"}`, "must be a number, not a string", "Patient.multipleBirthInteger"},
		{`{"resourceType":"Patient","name":[{"id":1}]}`, "id must be a string", "Patient.name[0].id"},
		{`{"resourceType":"Patient","language":"a\u0000"}`, "XML cannot hold the character U+0000", "Patient.language"},
		{`{"resourceType":"Patient","language":"\ufffe"}`, "XML cannot hold the character U+FFFE", "Patient.language"},
		{`{"resourceType":"Patient","contained":[{"id":"a"}]}`, "needs its resourceType", "Patient.contained[0]"},
		{`{"resourceType":"Patient","contained":[{}]}`, "contained is empty", "Patient.contained[0]"},
		{`{"resourceType":"Patient","contained":["a"]}`, "must be an object", "Patient.contained[0]"},
		{`{"resourceType":"Patient","text":{"div":5}}`, "must be a string", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":""}}`, "it must be one <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"text"}}`, "it must be one <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div><p></div>"}}`, "</div> stands where </p>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div/><div/>"}}`, "it must be one <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<!--a--><div/>"}}`, "it must be one <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<p/>"}}`, "a narrative is a <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div xmlns='urn:a'/>"}}`, "a narrative is a <div>", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div>&bogus;</div>"}}`, "XML knows no &bogus;", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div><o:p/></div>"}}`, "nothing declares the prefix o", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<!DOCTYPE a><div/>"}}`, "document type", "Patient.text.div"},
		{`{"resourceType":"Patient","text":{"div":"<div>\u0001</div>"}}`, "U+0001", "Patient.text.div"},
	} {
		before := []byte("before")
		text, err := xml.AppendXML(before, parse(t, []byte(c.json)))
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Kind != fault.Invalid {
			t.Errorf("%s: got %s, %v", c.json, text, err)
			continue
		}
		if p := e.Place[0]; !strings.Contains(p.Detail, c.detail) || p.Expression != c.expression || p.Line != 1 || p.Col == 0 {
			t.Errorf("%s:\ngot  %+v\nwant %s, %s", c.json, p, c.detail, c.expression)
		}
		if string(text) != "before" {
			t.Errorf("%s: leaves %s", c.json, text)
		}
	}
}

func TestAppendPretty(t *testing.T) {
	src := `{"resourceType":"Patient","text":{"status":"empty","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">\n<p>a</p></div>"},` +
		`"contained":[{"resourceType":"Basic"}],"_birthDate":{"extension":[{"url":"u","valueCode":"c"}]}}`
	want := declared + `
<Patient xmlns="http://hl7.org/fhir">
  <text>
    <status value="empty"/>
    <div xmlns="http://www.w3.org/1999/xhtml">
<p>a</p></div>
  </text>
  <contained>
    <Basic/>
  </contained>
  <birthDate>
    <extension url="u">
      <valueCode value="c"/>
    </extension>
  </birthDate>
</Patient>`
	got, err := xml.AppendPretty(nil, parse(t, []byte(src)))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Deep resources do not become mostly white space.
func TestPrettyIsNotMuchLonger(t *testing.T) {
	const depth, repeats = 250, 2000
	src := `{"resourceType":"Basic","extension":[` + strings.Repeat(`{"url":"u","extension":[`, depth) + `{"url":"v"}` + strings.Repeat(`,{"url":"v"}`, repeats) +
		strings.Repeat(`]}`, depth) + `]}`
	root := parse(t, []byte(src))
	got, err := xml.AppendPretty(nil, root)
	if err != nil {
		t.Fatal(err)
	}
	if most := repeats * 200; len(got) > most {
		t.Errorf("%d bytes of JSON became %d, want %d at most", len(src), len(got), most)
	}
}

// A resource inside another document can be written alone.
func TestAppendXMLOfANestedResource(t *testing.T) {
	root := parse(t, []byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic","id":"b"}}]}`))
	got, err := xml.AppendXML(nil, root.Get("entry").Index(0).Get("resource"))
	if err != nil {
		t.Fatal(err)
	}
	if want := declared + `<Basic xmlns="http://hl7.org/fhir"><id value="b"/></Basic>`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLocate(t *testing.T) {
	src := []byte("<Bundle xmlns='http://hl7.org/fhir'>\n <entry>\n  <resource><Patient>\n" +
		"   <extension\n url='u'/>\n   <name><given value='a'/>\n    <given id='x' value='b'/></name>\n  </Patient></resource></entry></Bundle>")
	for expression, want := range map[string]string{
		"Bundle":                   "1:1",
		"Bundle.entry[0]":          "2:2",
		"Bundle.entry":             "1:1",
		"Bundle.entry[0].resource": "3:3",
		"Bundle.entry[0].resource.extension[0].url":    "5:2",
		"Bundle.entry[0].resource.name[0].given[1]":    "7:5",
		"Bundle.entry[0].resource.name[0].given[1].id": "7:12",
		"Bundle.entry[0].resource.name[0].given[7].id": "6:4",
		"Bundle.entry[0].resource.name[0].family":      "6:4",
		"Patient.name": "0:0",
		"":             "0:0",
		"Bundle.entry[0].resource.name[0].where(use='a.b')": "6:4",
	} {
		places := []fault.Issue{{Expression: expression, Line: 99, Col: 99}}
		xml.Locate(src, places)
		if got := fmt.Sprintf("%d:%d", places[0].Line, places[0].Col); got != want {
			t.Errorf("%s is at %s, want %s", expression, got, want)
		}
	}
}
