package datafile

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLiteral(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in   string
		want any
	}{
		{`'a'`, "a"},
		{`"it's"`, "it's"},
		{`'a' "b" r'\c'`, `ab\c`},
		{`'\x41\u00e9\U0001F600\101\n\'\q'`, "Aé😀A\n'\\q"},
		{"'''a\nb'''", "a\nb"},
		{`u'x'`, "x"},
		{`b'x\x41'`, "xA"},
		{`Rb'\n'`, `\n`},
		{"'a\\\nb'", "ab"},
		{`r'\''`, `\'`},
		{`-0x1F`, int64(-31)},
		{`0b101`, int64(5)},
		{`0o17`, int64(15)},
		{`1_000`, int64(1000)},
		{`+7`, int64(7)},
		{`- 7`, int64(-7)},
		{`00`, int64(0)},
		{`-9223372036854775808`, int64(-9223372036854775808)},
		{`1.5e3`, 1500.0},
		{`.5`, 0.5},
		{`5.`, 5.0},
		{`1_0.0_1`, 10.01},
		{`True`, true},
		{`False`, false},
		{`None`, nil},
		{`()`, []any{}},
		{`(1)`, int64(1)},
		{`(1,)`, []any{int64(1)}},
		{`(1, 'a',)`, []any{int64(1), "a"}},
		{`[1, [2.0], {}]`, []any{int64(1), []any{2.0}, map[string]any{}}},
		{"{ # note: ' and ]\n 'a': 1, 'b' 'c': [True,], }  # end", map[string]any{"a": int64(1), "bc": []any{true}}},
		{"{'a':\\\n1}", map[string]any{"a": int64(1)}},
	} {
		got, _, err := parseLiteral(row.in, 64, unlimited)
		if err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %#v, %v; want %#v", row.in, got, err, row.want)
		}
	}
}

func TestLiteralRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, in string
		offset   int
		message  string
	}{
		{"call", `{'a': open('x')}`, 6, "call"},
		{"method", `{'a': 'x'.upper()}`, 9, "call"},
		{"name", `{'a': secret}`, 6, "name"},
		{"operator", `1 + 2`, 2, "operator"},
		{"multiplied text", `'a' * 3`, 4, "operator"},
		{"word operator", `1 if 2 else 3`, 2, "operator"},
		{"not", `not 1`, 0, "name"},
		{"comprehension", `[x for x in []]`, 1, "name"},
		{"index", `[1][0]`, 3, "index"},
		{"formatted string", `f'{x}'`, 0, "formatted"},
		{"set", `{1, 2}`, 1, "must be text"},
		{"set of text", `{'a', 'b'}`, 1, "set"},
		{"number as key", `{1: 2}`, 1, "must be text"},
		{"same key twice", `{'a': 1, 'a': 2}`, 9, "twice"},
		{"complex", `1j`, 0, "complex"},
		{"too large", `9223372036854775808`, 0, "64 bits"},
		{"infinite", `1e999`, 0, "64 bits"},
		{"leading zero", `010`, 0, "start with 0"},
		{"double underscore", `1__0`, 0, "not a number"},
		{"negated text", `-'a'`, 0, "operator"},
		{"open list", `[1, 2`, 0, "never closed"},
		{"open dict", `{'a': 1`, 0, "never closed"},
		{"open string", `'abc`, 0, "never closed"},
		{"string over lines", "'a\nb'", 0, "three quotes"},
		{"surrogate", `'\ud800'`, 1, "not a character"},
		{"short escape", `'\x4'`, 1, "hexadecimal"},
		{"joined bytes and text", `'a' b'b'`, 4, "joined"},
		{"empty", ` `, 1, "empty"},
		{"two values", `1 2`, 2, ""},
		{"lower-case true", `true`, 0, "True"},
		{"10,000 nested lists", strings.Repeat("[", 10000), 64, "nested"},
		{"10,000 nested tuples", strings.Repeat("(", 10000), 64, "nested"},
	} {
		v, _, err := parseLiteral(row.in, 64, unlimited)
		if err == nil {
			t.Errorf("%s: accepted as %#v", row.name, v)
			continue
		}
		if err.offset != row.offset || !strings.Contains(err.message, row.message) {
			t.Errorf("%s: got %d %q, want %d ...%s...", row.name, err.offset, err.message, row.offset, row.message)
		}
	}
}

func FuzzLiteral(f *testing.F) {
	for _, s := range []string{`{'a': [1, 2.5, None]}`, `'\x41' r"\b"`, `-0x1f`, `((((`, `{'a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("Parse has refused it")
		}
		v, _, perr := parseLiteral(s, 64, unlimited)
		if perr != nil {
			if perr.offset < 0 || perr.offset > len(s) {
				t.Fatalf("offset %d outside of %d bytes", perr.offset, len(s))
			}
			return
		}
		var b strings.Builder
		if err := pythonLiteral(&b, v); err != nil {
			t.Fatal(err)
		}
		again, _, perr := parseLiteral(b.String(), 64, unlimited)
		if perr != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%#v came back as %#v (%v) by way of %s", v, again, perr, b.String())
		}
	})
}

func unlimited() bool { return true }
