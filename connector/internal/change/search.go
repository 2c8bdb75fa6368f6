package change

import (
	"strings"
	"unicode"
)

// A search looks for a part of a text in any case. Each store folds letters by
// rules of its own: Postgres by its database's locale, SQLite ASCII alone. So the
// cases are spelled out here, letter by letter, and what is looked for is plain
// text: no character of it is a wildcard.

// SearchRegexp is a Postgres regular expression for texts that hold query.
// Errors: fault.InvalidArgument for what no store can hold.
func SearchRegexp(query string) (string, error) {
	return search(query, func(b *strings.Builder, r rune) {
		if r < 0x80 {
			b.WriteByte('\\') // of what is no letter or digit: the character itself
		}
		b.WriteRune(r)
	})
}

// SearchGlob is an SQLite GLOB pattern for texts that hold query.
// Errors: as SearchRegexp's.
func SearchGlob(query string) (string, error) {
	pattern, err := search(query, func(b *strings.Builder, r rune) {
		if strings.ContainsRune("*?[", r) {
			b.WriteString("[" + string(r) + "]")
			return
		}
		b.WriteRune(r)
	})
	return "*" + pattern + "*", err
}

func search(query string, plain func(b *strings.Builder, r rune)) (string, error) {
	if err := Text(query); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range query {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && unicode.SimpleFold(r) == r {
			plain(&b, r)
			continue
		}
		b.WriteByte('[')
		b.WriteRune(r)
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			b.WriteRune(other)
		}
		b.WriteByte(']')
	}
	return b.String(), nil
}
