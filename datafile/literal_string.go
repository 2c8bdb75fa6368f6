package datafile

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// strings parses one or more adjacent string literals, which Python joins.
func (l *literal) strings() string {
	var b strings.Builder
	bytesForm, first := false, true
	for {
		start := l.i
		raw, isBytes := l.prefix()
		if !first && isBytes != bytesForm {
			l.fail(start, "bytes and text can't be joined")
		}
		bytesForm, first = isBytes, false
		l.quoted(&b, raw, isBytes)
		l.space()
		if !l.atString() {
			return b.String()
		}
	}
}

// atString tells whether another string literal, with or without prefix, follows.
func (l *literal) atString() bool {
	for j := l.i; j < len(l.s) && j < l.i+3; j++ {
		switch c := l.s[j]; {
		case c == '\'' || c == '"':
			return true
		case !strings.ContainsRune("rRbBuUfF", rune(c)):
			return false
		}
	}
	return false
}

func (l *literal) prefix() (raw, isBytes bool) {
	start := l.i
	for l.peek() != '\'' && l.peek() != '"' {
		l.i++
	}
	switch strings.ToLower(l.s[start:l.i]) {
	case "", "u":
	case "r":
		raw = true
	case "b":
		isBytes = true
	case "br", "rb":
		raw, isBytes = true, true
	case "f", "fr", "rf", "t", "tr", "rt":
		l.fail(start, "only literals are allowed: a formatted string would have to be evaluated")
	default:
		l.fail(start, "this is not a string prefix")
	}
	return raw, isBytes
}

// quoted parses from the opening quote to the closing one.
func (l *literal) quoted(b *strings.Builder, raw, isBytes bool) {
	start := l.i
	quote := l.s[l.i : l.i+1]
	triple := strings.HasPrefix(l.s[l.i:], strings.Repeat(quote, 3))
	if triple {
		quote = strings.Repeat(quote, 3)
	}
	l.i += len(quote)
	for {
		if l.i >= len(l.s) {
			l.fail(start, "this string is never closed")
		}
		if strings.HasPrefix(l.s[l.i:], quote) {
			l.i += len(quote)
			return
		}
		switch c := l.s[l.i]; {
		case c == '\n' && !triple:
			l.fail(start, "this string is not closed on its line; use three quotes")
		case c == '\r' && strings.HasPrefix(l.s[l.i:], "\r\n"):
			l.i++ // Python reads every line end as one newline
		case c == '\\' && raw:
			// A raw backslash stays, and the quote behind it doesn't close.
			b.WriteByte(c)
			l.i++
			if l.i < len(l.s) {
				_, n := utf8.DecodeRuneInString(l.s[l.i:])
				b.WriteString(l.s[l.i : l.i+n])
				l.i += n
			}
		case c == '\\':
			l.escape(b, isBytes)
		case isBytes && c >= utf8.RuneSelf:
			l.fail(l.i, "bytes hold ASCII only")
		default:
			b.WriteByte(c)
			l.i++
		}
	}
}

// escape parses one backslash escape of a string that is not raw.
func (l *literal) escape(b *strings.Builder, isBytes bool) {
	start := l.i
	l.i++
	if l.i >= len(l.s) {
		l.fail(start, "this string is never closed")
	}
	c := l.s[l.i]
	l.i++
	switch c {
	case '\n':
	case '\r':
		if l.peek() == '\n' {
			l.i++
		}
	case '\\', '\'', '"':
		b.WriteByte(c)
	case 'a':
		b.WriteByte('\a')
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'v':
		b.WriteByte('\v')
	case '0', '1', '2', '3', '4', '5', '6', '7':
		end := l.i
		for end < len(l.s) && end < l.i+2 && l.s[end] >= '0' && l.s[end] <= '7' {
			end++
		}
		n, _ := strconv.ParseUint(l.s[l.i-1:end], 8, 32)
		l.i = end
		l.rune(b, start, n, isBytes)
	case 'x':
		l.hex(b, start, 2, isBytes)
	case 'u', 'U', 'N':
		switch {
		case isBytes:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == 'N':
			l.fail(start, "characters by name are not supported; use \\u")
		case c == 'u':
			l.hex(b, start, 4, false)
		default:
			l.hex(b, start, 8, false)
		}
	default:
		// Python keeps an unknown escape as it is.
		b.WriteByte('\\')
		l.i--
	}
}

func (l *literal) hex(b *strings.Builder, start, digits int, isBytes bool) {
	if l.i+digits > len(l.s) {
		l.fail(start, "this escape is cut short")
	}
	text := l.s[l.i : l.i+digits]
	n, err := strconv.ParseUint(text, 16, 32)
	if err != nil {
		l.fail(start, "this escape needs %d hexadecimal digits", digits)
	}
	l.i += digits
	l.rune(b, start, n, isBytes)
}

func (l *literal) rune(b *strings.Builder, start int, n uint64, isBytes bool) {
	if isBytes && n >= utf8.RuneSelf {
		l.fail(start, "bytes hold ASCII only")
	}
	if n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
		l.fail(start, "this escape is not a character")
	}
	b.WriteRune(rune(n))
}

// quoteLiteral writes s as a Python string that stays on one line, holds
// nothing that XML forbids and no byte that a parser may normalise.
func quoteLiteral(b *strings.Builder, s string) {
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			b.WriteString(`\x` + hexDigits(r, 2))
		case !strconv.IsPrint(r) && r <= 0xffff:
			b.WriteString(`\u` + hexDigits(r, 4))
		case !strconv.IsPrint(r):
			b.WriteString(`\U` + hexDigits(r, 8))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
}

func hexDigits(r rune, width int) string {
	s := strconv.FormatUint(uint64(r), 16)
	return strings.Repeat("0", width-len(s)) + s
}
