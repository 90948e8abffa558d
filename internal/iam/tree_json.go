package iam

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// parseJSON reads strict JSON (RFC 8259, no member twice).
func parseJSON(text []byte) (*node, error) {
	p := &jsonTree{text: text, decoder: jsontext.NewDecoder(bytes.NewReader(text))}
	root, err := p.value("", 0)
	if err == nil {
		if _, after := p.decoder.ReadToken(); after != io.EOF {
			err = errors.New("something follows the document")
		}
	}
	if err != nil {
		return nil, p.fail(err)
	}
	return root, nil
}

type jsonTree struct {
	text    []byte
	decoder *jsontext.Decoder
	nodes   int
	// line and col of offset, carried forward as the decoder goes on.
	offset, line, col int
}

// fail says where the decoder stopped.
func (p *jsonTree) fail(err error) error {
	offset := int(p.decoder.InputOffset())
	if found, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		offset, err = int(found.ByteOffset), found.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the text ends too early")
	}
	p.offset = 0 // the error may lie before the last token's end
	line, col := p.place(offset)
	return syntax(line, col, "not JSON: %v", err)
}

// place turns an offset into line and column, in bytes.
func (p *jsonTree) place(offset int) (line, col int) {
	if p.offset == 0 {
		p.line, p.col = 1, 1
	}
	for ; p.offset < offset && p.offset < len(p.text); p.offset++ {
		if p.col++; p.text[p.offset] == '\n' {
			p.line, p.col = p.line+1, 1
		}
	}
	return p.line, p.col
}

// start is where the next token begins: past white space, colon and comma.
func (p *jsonTree) start() (line, col int) {
	at := int(p.decoder.InputOffset())
	for at < len(p.text) && bytes.IndexByte([]byte(" \t\r\n:,"), p.text[at]) >= 0 {
		at++
	}
	return p.place(at)
}

func (p *jsonTree) value(path string, depth int) (*node, error) {
	if p.nodes++; p.nodes > nodesMax {
		return nil, fmt.Errorf("more than %d values", nodesMax)
	}
	if depth > depthMax {
		return nil, fmt.Errorf("more than %d levels", depthMax)
	}
	n := &node{path: path}
	n.line, n.col = p.start()
	token, err := p.decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindBeginObject:
		n.kind = isObject
		return n, p.object(n, depth)
	case jsontext.KindBeginArray:
		n.kind = isList
		return n, p.list(n, depth)
	case jsontext.KindString:
		n.kind = isText
	case jsontext.KindNumber:
		n.kind = isNumber
	case jsontext.KindNull:
		n.kind = isNull
	default:
		n.kind = isBool
	}
	n.text = token.String()
	return n, nil
}

func (p *jsonTree) object(n *node, depth int) error {
	for p.decoder.PeekKind() != jsontext.KindEndObject {
		name, err := p.decoder.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		value, err := p.value(below(n.path, key), depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key, value})
	}
	_, err := p.decoder.ReadToken()
	return err
}

func (p *jsonTree) list(n *node, depth int) error {
	for p.decoder.PeekKind() != jsontext.KindEndArray {
		item, err := p.value(fmt.Sprintf("%s[%d]", n.path, len(n.items)), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := p.decoder.ReadToken()
	return err
}
