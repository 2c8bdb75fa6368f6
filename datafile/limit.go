package datafile

import (
	"bytes"
	"unicode"
)

// The bounds that hold whatever Limits says. Each is far above what a file of
// tens of thousands of connectors needs, and together they keep a hostile file's
// memory within a small multiple of the largest honest one's.
const (
	// maxParts bounds records, fields and nested values of a file, together: two
	// bytes of a literal become a hundred in memory.
	maxParts = 1 << 20
	// maxKeys bounds the keys of one map and the fields of one record.
	maxKeys = 1024
	// maxName bounds, in bytes, what is a name: record ids, models, fields, keys.
	maxName = 255
	// maxProblems bounds what is reported of a file that is made of garbage.
	maxProblems = 1000
)

// keep keeps a problem, up to maxProblems.
func (p *parser) keep(x Problem) {
	switch {
	case len(p.problems) < maxProblems:
		p.problems = append(p.problems, x)
	case len(p.problems) == maxProblems:
		x.Record, x.Message = "", "there are more problems than are listed; mend these first"
		p.problems = append(p.problems, x)
	}
}

// spend counts one more part of the file, false when there are too many.
func (p *parser) spend() bool {
	p.parts++
	return p.parts <= maxParts
}

// spendInside is spend for a literal, which reports a no by itself.
func (p *parser) spendInside() bool {
	ok := p.spend()
	p.overspent = p.overspent || !ok
	return ok
}

// tooMany reports, once, that spend said no.
func (p *parser) tooMany(at Position) {
	if !p.overspent {
		p.overspent = true
		p.problem(at, "", "the file has more than %d records, fields and values; split it", maxParts)
	}
}

// nameable checks what every format must be able to write: XML has no control
// characters and no U+FFFE and U+FFFF, even as references (XML 1.0, section 2.2).
func (p *parser) nameable(at Position, record, what, s string) {
	switch {
	case len(s) > maxName:
		p.problem(at, "", "%s has more than %d bytes", what, maxName)
	case !writable(s):
		p.problem(at, brief(record), "%s has a character that no data file can hold", what)
	}
}

func writable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}

// brief is a name of the file as messages repeat it.
func brief(s string) string {
	if len(s) <= maxName && writable(s) {
		return s
	}
	cut := 0
	for i, r := range s {
		if i > 32 || !writable(string(r)) {
			break
		}
		cut = i + len(string(r))
	}
	return s[:cut] + "..."
}

// block is how many bytes one entry of the line index stands for.
const block = 4 << 10

// lineIndex finds lines without a list of all of them, which for a file of line
// ends would be eight times the file.
type lineIndex struct{ line, start int } // at a block's first byte

// at turns a byte offset into a position.
func (p *parser) at(offset int) Position {
	if p.lines == nil {
		p.lines = make([]lineIndex, 0, len(p.data)/block+1)
		line, start := 1, 0
		for i := 0; i <= len(p.data); i += block {
			p.lines = append(p.lines, lineIndex{line, start})
			part := p.data[i:min(i+block, len(p.data))]
			line += bytes.Count(part, []byte("\n"))
			if last := bytes.LastIndexByte(part, '\n'); last >= 0 {
				start = i + last + 1
			}
		}
	}
	offset = min(offset, len(p.data))
	from := p.lines[offset/block]
	part := p.data[offset/block*block : offset]
	if last := bytes.LastIndexByte(part, '\n'); last >= 0 {
		from.start = offset/block*block + last + 1
	}
	return Position{Line: from.line + bytes.Count(part, []byte("\n")), Column: offset - from.start + 1}
}
