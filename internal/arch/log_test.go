package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLogFieldsHaveOneSpelling: packages below internal/obs can't take its
// constants, because they would take Prometheus with them, so the strings are
// compared. A field that nobody writes is a query that finds nothing.
func TestLogFieldsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	fields := constants(t, "../obs/log.go", "Field")
	written := map[string]bool{}
	for _, p := range packages(t) {
		if within(p.ImportPath, []string{"bench/...", "e2e/...", "internal/testenv/...", "internal/obs"}) {
			continue
		}
		for _, name := range p.GoFiles {
			for _, key := range logKeys(t, filepath.Join(p.Dir, name)) {
				if constant, ok := strings.CutPrefix(key, "obs."); ok {
					key = fields[constant]
				} else if !slices.Contains(values(fields), key) {
					t.Errorf("%s/%s logs the field %q, which internal/obs/log.go doesn't list", p.ImportPath, name, key)
				}
				written[key] = true
			}
		}
	}
	for constant, field := range fields {
		if !written[field] {
			t.Errorf("no line has the field %q: take obs.%s off the list", field, constant)
		}
	}
}

// constants are the string constants of a file whose names begin with prefix.
func constants(t *testing.T, path, prefix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, prefix) {
			if text, ok := literal(spec.Values[0]); ok {
				found[spec.Names[0].Name] = text
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatalf("%s has no constants %s...", path, prefix)
	}
	return found
}

// logKeys are the field names that a file logs under: literals as they are,
// constants as "obs.Name".
func logKeys(t *testing.T, path string) (keys []string) {
	t.Helper()
	add := func(e ast.Expr) {
		if text, ok := literal(e); ok {
			keys = append(keys, text)
		} else if s, ok := e.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Field") {
			keys = append(keys, "obs."+s.Sel.Name)
		}
	}
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		s, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		from, _ := s.X.(*ast.Ident)
		switch s.Sel.Name {
		case "Debug", "Info", "Warn", "Error": // a message, then pairs
			if _, ok := literal(call.Args[0]); ok {
				for i := 1; i+1 < len(call.Args); i += 2 {
					add(call.Args[i])
				}
			}
		case "String", "Int", "Int64", "Uint64", "Float64", "Bool", "Duration", "Time", "Any", "Group":
			if from != nil && from.Name == "slog" {
				add(call.Args[0])
			}
		}
		return true
	})
	return keys
}

// skipping is the reviewed list of tests that may leave themselves out, and why
// nothing goes unnoticed. Elsewhere a skipped test is one that nobody runs.
var skipping = map[string]string{
	"datafile/literal_test.go": "inputs of a fuzz test or property that others judge",
	"internal/testenv/main.go": "a missing server, which is a failure where CI is set",
}

func TestWhoSkips(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			ast.Inspect(parse(t, filepath.Join(p.Dir, name)), func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
					found[p.ImportPath+"/"+name] = true
				}
				return true
			})
		}
	}
	for file := range found {
		if skipping[file] == "" {
			t.Errorf("%s skips tests: say in the list why nothing goes unnoticed, or fail", file)
		}
	}
	for file := range skipping {
		if !found[file] {
			t.Errorf("%s skips nothing any more: take it off the list", file)
		}
	}
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

func values(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
