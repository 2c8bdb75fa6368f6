package datafile

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Limits bounds what Parse accepts. Zero fields take the defaults.
type Limits struct {
	Bytes int64 // size of the file; default 32 MiB
	Depth int   // nesting of lists and dicts; default 64
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 32 << 20
	}
	if l.Depth <= 0 {
		l.Depth = 64
	}
	return l
}

// Parse reads a data file. The extension of name decides: .yaml and .yml are
// YAML, .csv is CSV (and the file's name its model), everything else is XML.
// It reads one byte past the limit at most, and its memory and time grow no more
// than linearly with the file, within the bounds of limit.go.
//
// Errors: [Problems], as many at once as the syntax allows; fault.TooLarge for
// a file above the limit; the reader's own error, wrapped.
func Parse(name string, r io.Reader, o Limits) (*File, error) {
	o = o.withDefaults()
	data, err := io.ReadAll(io.LimitReader(r, o.Bytes+1))
	if err != nil {
		return nil, fmt.Errorf("read data file: %w", err)
	}
	if int64(len(data)) > o.Bytes {
		return nil, fault.Newf(fault.TooLarge, "%s: a data file has at most %d bytes; split it", name, o.Bytes)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	p := &parser{name: name, data: data, limits: o, file: &File{Name: name}}
	if utf16(data) {
		p.problem(Position{1, 1}, "", "the file is UTF-16; save it as UTF-8")
	} else if at, ok := firstInvalid(data); ok {
		p.problem(p.at(at), "", "the file is not valid UTF-8; save it as UTF-8")
	} else {
		switch format(name) {
		case formatYAML:
			p.yaml()
		case formatCSV:
			p.csv()
		default:
			p.xml()
		}
	}
	if len(p.problems) > 0 {
		return nil, p.problems.Sort()
	}
	return p.file, nil
}

// parser is the state that the three formats share.
type parser struct {
	name     string
	data     []byte
	limits   Limits
	file     *File
	problems Problems
	lines    []lineIndex // made on first use

	parts     int // spent, see spend
	overspent bool
}

func (p *parser) problem(at Position, record, format string, args ...any) {
	p.keep(Problem{File: p.name, Position: at, Record: brief(record), Message: fmt.Sprintf(format, args...)})
}

// add checks what is true of a record in every format and keeps it.
func (p *parser) add(r Record) {
	if !p.spend() {
		p.tooMany(r.Position)
		return
	}
	if r.ID == "" {
		p.problem(r.Position, "", "a record needs an id")
	}
	if r.Model == "" {
		p.problem(r.Position, r.ID, "a record needs a model")
	}
	p.nameable(r.Position, "", "the record's id", r.ID)
	p.nameable(r.Position, r.ID, "the record's model", r.Model)
	if len(r.Fields) > maxKeys {
		p.problem(r.Position, r.ID, "a record has at most %d fields", maxKeys)
		return
	}
	seen := make(map[string]bool, len(r.Fields))
	for _, f := range r.Fields {
		if f.Name == "" {
			p.problem(f.Position, r.ID, "a field needs a name")
		} else if seen[f.Name] {
			p.problem(f.Position, r.ID, "field %q is given twice", brief(f.Name))
		}
		seen[f.Name] = true
		p.nameable(f.Position, r.ID, "the field's name", f.Name)
		if f.Form == Ref {
			p.nameable(f.Position, r.ID, "the reference", f.Text)
		}
	}
	p.file.Records = append(p.file.Records, r)
}

// utf16 recognises the encoding that some editors on Windows choose, by its byte
// order mark or by the zero byte beside the first ASCII character.
func utf16(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) ||
		len(b) >= 2 && (b[0] == 0) != (b[1] == 0)
}

func firstInvalid(b []byte) (int, bool) {
	if utf8.Valid(b) {
		return 0, false
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i, true
		}
		i += n
	}
	return 0, false
}
