package importer

import (
	"errors"
	"testing"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	asked := 0
	im := &Importer{
		Env: func(name string) (string, bool) {
			asked++
			v, ok := map[string]string{"A": "$ENV:B", "B": "b", "EMPTY": "", "BAD": "\xff"}[name]
			return v, ok
		},
		ReadFile: func(path string) ([]byte, error) {
			v, ok := map[string]string{"conf/f": "x\n\n", "/abs": "y\r\n", "conf/empty": "\n"}[path]
			if !ok {
				return nil, errors.New("no such file")
			}
			return []byte(v), nil
		},
	}
	e := newExpander(im)
	const file = "conf/data.xml"
	for _, row := range []struct {
		in, want string
		foreign  bool
		bad      bool
	}{
		{"plain", "plain", false, false},
		{"a$ENV:B", "a$ENV:B", false, false},
		{"$ENV", "$ENV", false, false},
		{"$5", "$5", false, false},
		{"$ENV:A", "$ENV:B", true, false}, // once
		{"$$ENV:A", "$ENV:A", false, false},
		{"$$$ENV:A", "$$ENV:A", false, false},
		{"$$FILE:f", "$FILE:f", false, false},
		{"$FILE:f", "x\n", true, false},    // one newline
		{"$FILE:/abs", "y\r", true, false}, // and nothing but it
		{"$FILE:empty", "", true, true},
		{"$FILE:none", "", true, true},
		{"$FILE:", "", true, true},
		{"$ENV:NONE", "", true, true},
		{"$ENV:EMPTY", "", true, true},
		{"$ENV:BAD", "", true, true},
		{"$ENV:", "", true, true},
	} {
		got, foreign, problem := e.text(row.in, file)
		if got != row.want || foreign != row.foreign || (problem != "") != row.bad {
			t.Errorf("%s: got %q, %v, %q", row.in, got, foreign, problem)
		}
		if !row.foreign {
			if back, _, _ := e.text(escape(row.in), file); back != row.in {
				t.Errorf("%s escaped comes back as %q", row.in, back)
			}
		}
	}
	before := asked
	e.text("$ENV:A", file)
	if asked != before {
		t.Error("a variable was read twice")
	}
}
