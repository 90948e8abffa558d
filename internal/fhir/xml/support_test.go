package xml_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	stdxml "encoding/xml"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// suite reads the files of a packed suite whose names end so, by name.
func suite(t testing.TB, name, ending string) map[string][]byte {
	t.Helper()
	f, err := os.Open(testpath.Shared(t, "suites", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := xz.NewReader(bufio.NewReader(f)) // it reads byte by byte
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	eachFile(t, tar.NewReader(plain), func(name string, text []byte) bool {
		if strings.HasSuffix(name, ending) {
			all[name] = text
		}
		return true
	})
	return all
}

// eachFile goes through the files of a tar, as long as do says so.
func eachFile(t testing.TB, tr *tar.Reader, do func(name string, text []byte) bool) {
	t.Helper()
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || strings.HasPrefix(path.Base(h.Name), ".") {
			continue
		}
		plain, name := io.Reader(tr), h.Name
		if short, packed := strings.CutSuffix(name, ".bz2"); packed {
			plain, name = bzip2.NewReader(tr), short
		}
		text, err := io.ReadAll(plain)
		if err != nil {
			t.Fatal(err)
		}
		if !do(name, text) {
			return
		}
	}
}

func parse(t testing.TB, src []byte) fhir.Node {
	t.Helper()
	d, err := fhir.Parse(src)
	if err != nil {
		t.Fatalf("%v in %.300s", err, src)
	}
	return d.Root()
}

// sameJSON gives "" when two values are equal: members in any order, items in
// theirs, numbers by their text. Otherwise it says where they differ.
func sameJSON(a, b fhir.Node) string {
	switch {
	case a.Kind() != b.Kind() || a.Len() != b.Len():
		return fmt.Sprintf("%s: %.200s and %.200s", a.Path(), a.Raw(), b.Raw())
	case a.Kind() == fhir.Object:
		for name, x := range a.Members() {
			y := b.Get(name)
			if !y.Exists() {
				return x.Path() + " is lost"
			}
			if diff := sameJSON(x, y); diff != "" {
				return diff
			}
		}
	case a.Kind() == fhir.Array:
		for x, y := a.First(), b.First(); x.Exists(); x, y = x.Next(), y.Next() {
			if diff := sameJSON(x, y); diff != "" {
				return diff
			}
		}
	case a.Text() != b.Text():
		return fmt.Sprintf("%s: %.200s and %.200s", a.Path(), a.Raw(), b.Raw())
	}
	return ""
}

// canonical writes XML so that equal documents are equal texts, as another
// reader (encoding/xml) understands them: names with namespaces, attributes
// sorted, no comments, instructions and xsi hints, white space only where XHTML
// has it.
func canonical(src []byte) (string, error) {
	var b strings.Builder
	d := stdxml.NewDecoder(bytes.NewReader(src))
	inDiv := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case stdxml.StartElement:
			if token.Name.Space != "http://hl7.org/fhir" {
				inDiv++
			}
			writeStart(&b, token)
		case stdxml.EndElement:
			if inDiv > 0 {
				inDiv--
			}
			fmt.Fprintf(&b, "</%s>", token.Name.Local)
		case stdxml.CharData:
			if inDiv > 0 || len(bytes.TrimSpace(token)) > 0 {
				_ = stdxml.EscapeText(&b, token)
			}
		}
	}
}

var attributeSpace = strings.NewReplacer("\n", " ", "\t", " ", "\r", " ")

func writeStart(b *strings.Builder, e stdxml.StartElement) {
	attrs := slices.DeleteFunc(e.Attr, func(a stdxml.Attr) bool {
		return a.Name.Space == "xmlns" || a.Name.Local == "xmlns" || strings.HasSuffix(a.Name.Space, "XMLSchema-instance")
	})
	slices.SortFunc(attrs, func(x, y stdxml.Attr) int {
		return strings.Compare(x.Name.Space+" "+x.Name.Local, y.Name.Space+" "+y.Name.Local)
	})
	fmt.Fprintf(b, "<{%s}%s", e.Name.Space, e.Name.Local)
	for _, a := range attrs {
		// White space in a value is a space to a reader of XML (section 3.3.3);
		// encoding/xml leaves that to its caller.
		fmt.Fprintf(b, " {%s}%s=%q", a.Name.Space, a.Name.Local, attributeSpace.Replace(a.Value))
	}
	b.WriteString(">")
}
