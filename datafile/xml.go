package datafile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errEncoding = errors.New("another encoding")

var xmlRoots = []string{"ede", "ede_data", "odoo", "patchbay"}

// xmlReader walks the tokens of a file: root, data, record, field and nothing
// else, so that nesting is bounded by the grammar.
type xmlReader struct {
	*parser
	dec   *xml.Decoder
	start int  // offset of the token that was read last
	ended bool // the file can't be read on: its end, or an error that is reported
}

func (p *parser) xml() {
	dec := xml.NewDecoder(bytes.NewReader(p.data))
	// Strict, and no entity but XML's own five: nothing outside is ever read.
	dec.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		// ASCII is UTF-8, and Parse has checked that the bytes are.
		if strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "ascii") {
			return in, nil
		}
		return nil, errEncoding
	}
	x := &xmlReader{parser: p, dec: dec}
	root, ok := x.nextElement(nil)
	if !ok {
		if len(p.problems) == 0 {
			p.problem(Position{1, 1}, "", "the file has no root element; expected one of %s", strings.Join(xmlRoots, ", "))
		}
		return
	}
	if !slices.Contains(xmlRoots, root.Name.Local) {
		p.problem(x.at(x.start), "", "unknown root element <%s>; expected one of %s", brief(root.Name.Local), strings.Join(xmlRoots, ", "))
		return
	}
	noUpdate := x.noUpdate(root, false)
	if !x.children(root, func(e xml.StartElement) bool {
		switch e.Name.Local {
		case "record":
			return x.record(e, noUpdate)
		case "data":
			inner := x.noUpdate(e, noUpdate)
			return x.children(e, func(r xml.StartElement) bool {
				if r.Name.Local == "record" {
					return x.record(r, inner)
				}
				return x.unknown(r)
			})
		}
		return x.unknown(e)
	}) {
		return
	}
	if _, ok := x.nextElement(nil); ok {
		p.problem(x.at(x.start), "", "a second root element")
	}
}

// token reads the next token, and reports what is wrong with it.
func (x *xmlReader) token() (xml.Token, bool) {
	x.start = int(x.dec.InputOffset())
	t, err := x.dec.Token()
	if err == nil {
		if _, isDTD := t.(xml.Directive); isDTD {
			x.ended = true
			x.problem(x.at(x.start), "", "a DTD is not allowed")
			return nil, false
		}
		return t, true
	}
	x.ended = true
	if !errors.Is(err, io.EOF) {
		line, column := x.dec.InputPos()
		message := "the XML is not well-formed"
		if errors.Is(err, errEncoding) {
			message = "the file declares another encoding than UTF-8; save it as UTF-8"
		}
		// The decoder's text may quote the file, so only the known ones pass.
		if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
			for _, known := range []string{"unexpected EOF", "invalid character entity", "unquoted or missing attribute value in element", "illegal character code"} {
				if strings.HasPrefix(syntax.Msg, known) {
					message += ": " + known
				}
			}
			if strings.HasPrefix(syntax.Msg, "element <") {
				message += ": " + brief(syntax.Msg)
			}
		}
		x.problem(Position{line, max(1, column)}, "", "%s", message)
	}
	return nil, false
}

// nextElement returns the next child element of parent (nil: the document),
// false at parent's end or when the file can't be read on.
func (x *xmlReader) nextElement(parent *xml.StartElement) (xml.StartElement, bool) {
	for {
		t, ok := x.token()
		if !ok {
			return xml.StartElement{}, false
		}
		switch t := t.(type) {
		case xml.StartElement:
			return t.Copy(), true
		case xml.EndElement:
			return xml.StartElement{}, false
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				place := "outside of the root element"
				if parent != nil {
					place = "in <" + parent.Name.Local + ">"
				}
				x.problem(x.at(x.start), "", "text is not allowed %s", place)
			}
		}
	}
}

// children calls fn for each child element; false means the file broke off.
func (x *xmlReader) children(parent xml.StartElement, fn func(xml.StartElement) bool) bool {
	for {
		e, ok := x.nextElement(&parent)
		if !ok {
			return !x.ended
		}
		if !fn(e) || x.overspent {
			return false
		}
	}
}

// skip passes over an element that was reported already.
func (x *xmlReader) skip() bool {
	for depth := 1; depth > 0; {
		t, ok := x.token()
		if !ok {
			return false
		}
		switch t.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
	return true
}

func (x *xmlReader) unknown(e xml.StartElement) bool {
	x.problem(x.at(x.start), "", "unknown element <%s>; expected <record> or <data>", brief(e.Name.Local))
	return x.skip()
}

// once reports attributes that stand twice, which encoding/xml lets pass: the
// last one would win unseen.
func (x *xmlReader) once(e xml.StartElement, record string) {
	for i, a := range e.Attr {
		for _, b := range e.Attr[:i] {
			if a.Name == b.Name {
				x.problem(x.at(x.start), record, "attribute %q is given twice", brief(a.Name.Local))
			}
		}
		if i == 16 {
			x.problem(x.at(x.start), record, "too many attributes")
			return
		}
	}
}

// noUpdate reads the attribute of root and data elements.
func (x *xmlReader) noUpdate(e xml.StartElement, inherited bool) bool {
	x.once(e, "")
	out := inherited
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "noupdate":
			switch strings.ToLower(a.Value) {
			case "1", "true":
				out = true
			case "0", "false", "":
				out = false
			default:
				x.problem(x.at(x.start), "", "noupdate must be 0 or 1")
			}
		case "xmlns", "version":
		default:
			if a.Name.Space != "xmlns" {
				x.problem(x.at(x.start), "", "unknown attribute %q of <%s>", brief(a.Name.Local), e.Name.Local)
			}
		}
	}
	return out
}

func (x *xmlReader) record(e xml.StartElement, noUpdate bool) bool {
	r := Record{NoUpdate: noUpdate, Position: x.at(x.start)}
	x.once(e, "")
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "id":
			r.ID = a.Value
		case "model":
			r.Model = a.Value
		default:
			x.problem(r.Position, r.ID, "unknown attribute %q of <record>", brief(a.Name.Local))
		}
	}
	ok := x.children(e, func(f xml.StartElement) bool {
		if f.Name.Local != "field" {
			x.problem(x.at(x.start), r.ID, "unknown element <%s>; expected <field>", brief(f.Name.Local))
			return x.skip()
		}
		return x.field(&r, f)
	})
	x.add(r)
	return ok
}

func (x *xmlReader) field(r *Record, e xml.StartElement) bool {
	tagStart, tagEnd := x.start, int(x.dec.InputOffset())
	f := Field{Position: x.at(tagStart)}
	if !x.spend() {
		x.tooMany(f.Position)
		return false
	}
	x.once(e, r.ID)
	var forms []string
	broken := false
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "name":
			f.Name = a.Value
		case "ref":
			forms = append(forms, "ref")
			f.Value = Value{Form: Ref, Text: strings.TrimSpace(a.Value)}
			if f.Text == "" {
				x.problem(f.Position, r.ID, "a ref is empty")
			}
		case "eval":
			forms = append(forms, "eval")
			at := x.attributeOffsets(tagStart, tagEnd, "eval")
			v, keys, err := parseLiteral(a.Value, x.limits.Depth, x.spendInside)
			if err != nil {
				x.problem(at(err.offset), r.ID, "eval: %s", err.message)
				broken = true
				continue
			}
			f.Value = literalValue(v)
			f.Keys = make(map[string]Position, len(keys))
			for k, offset := range keys {
				f.Keys[k] = at(offset)
			}
		default:
			x.problem(f.Position, r.ID, "unknown attribute %q of <field>", brief(a.Name.Local))
		}
	}
	var text strings.Builder
	for {
		t, ok := x.token()
		if !ok {
			return false
		}
		switch t := t.(type) {
		case xml.CharData:
			text.Write(t)
			continue
		case xml.StartElement:
			x.problem(x.at(x.start), r.ID, "an element inside a field is not allowed")
			if !x.skip() {
				return false
			}
			continue
		case xml.EndElement:
		default:
			continue
		}
		break
	}
	// People indent long values; a value that needs its outer white space is written as eval.
	s := strings.TrimSpace(text.String())
	if s != "" {
		forms = append(forms, "text")
	}
	if len(forms) > 1 {
		x.problem(f.Position, r.ID, "a field has one of ref, eval and text, not %s", strings.Join(forms, " and "))
	} else if len(forms) == 0 || forms[0] == "text" {
		f.Value = Value{Form: Text, Text: s}
	}
	if !broken {
		r.Fields = append(r.Fields, f)
	}
	return true
}

// attributeOffsets finds an attribute's value in the raw tag and returns a
// function from offsets in the decoded value to positions in the file.
func (x *xmlReader) attributeOffsets(start, end int, name string) func(int) Position {
	raw := x.data[start:end]
	i := 0
	for i < len(raw) && !strings.ContainsRune(" \t\r\n", rune(raw[i])) {
		i++
	}
	// The decoder accepted the tag, so it is a row of name="value".
	for i < len(raw) {
		for i < len(raw) && strings.IndexByte(" \t\r\n/>", raw[i]) >= 0 {
			i++
		}
		nameStart := i
		for i < len(raw) && strings.IndexByte(" \t\r\n=", raw[i]) < 0 {
			i++
		}
		found := string(raw[nameStart:i]) == name
		for i < len(raw) && raw[i] != '"' && raw[i] != '\'' {
			i++
		}
		if i >= len(raw) {
			break
		}
		closing := bytes.IndexByte(raw[i+1:], raw[i])
		if closing < 0 {
			break
		}
		if found {
			value, base := raw[i+1:i+1+closing], start+i+1
			return func(decoded int) Position { return x.at(base + rawOffset(value, decoded)) }
		}
		i += closing + 2
	}
	return func(int) Position { return x.at(start) }
}

// rawOffset walks entities and line ends, which are shorter once decoded.
func rawOffset(raw []byte, decoded int) int {
	i, n := 0, 0
	for i < len(raw) && n < decoded {
		switch {
		case raw[i] == '&':
			end := bytes.IndexByte(raw[i:], ';')
			if end < 0 {
				return i
			}
			n += entityLength(string(raw[i+1 : i+end]))
			i += end + 1
		case raw[i] == '\r' && i+1 < len(raw) && raw[i+1] == '\n':
			i += 2
			n++
		default:
			i++
			n++
		}
	}
	return i
}

// entityLength is the decoded length of an entity, in bytes.
func entityLength(name string) int {
	digits, base := strings.TrimPrefix(name, "#"), 10
	if digits == name {
		return 1 // XML's own five are ASCII
	}
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseInt(digits, base, 32)
	if err != nil {
		return 1
	}
	return utf8.RuneLen(rune(n))
}
