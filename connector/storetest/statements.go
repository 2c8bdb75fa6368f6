package storetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const tenantTables = `(tenants|organizations|connectors|connector_params|connector_revisions|outbox|audit|oauth_grants|idempotency_keys|oauth_states|purged_tenants)`

var (
	statement = regexp.MustCompile(`(?is)^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s`)
	// A table with its alias; of an UPDATE or DELETE the alias may be missing.
	tableUse = regexp.MustCompile(`(?is)\b(FROM|JOIN|INTO|UPDATE)\s+` + tenantTables + `\b\s*(\(|[a-z]\b)?`)
)

// unnamed lists the tables of a statement that it does not narrow to a tenant.
func unnamed(sql string) (tables []string) {
	for _, m := range tableUse.FindAllStringSubmatchIndex(sql, -1) {
		table, rest := sql[m[4]:m[5]], sql[m[1]:]
		alias := ""
		if m[6] >= 0 {
			alias = sql[m[6]:m[7]]
		}
		key := "tenant_id"
		if table == "tenants" {
			key = "id"
		}
		switch {
		case strings.EqualFold(sql[m[2]:m[3]], "INTO"):
			columns, _, _ := strings.Cut(rest, ")")
			if alias == "(" && strings.HasPrefix(strings.TrimSpace(columns), key+",") {
				continue
			}
		case alias != "" && alias != "(":
			if regexp.MustCompile(`(?i)\b` + alias + `\.` + key + `\s*(=|IN\b)`).MatchString(rest) {
				continue
			}
		case regexp.MustCompile(`(?is)\bWHERE\s+` + key + `\s*=\s*[$?]1\b`).MatchString(rest):
			continue
		}
		tables = append(tables, table)
	}
	return tables
}

// Statements reads a store's source and finds each SQL statement in it, string
// constants put together. One that touches a tenant's table without naming the
// tenant fails, unless free has it: a part of its text, and the reason.
func Statements(t *testing.T, dir string, free map[string]string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	constants := map[string]ast.Expr{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == len(spec.Values) {
				for i, name := range spec.Names {
					constants[name.Name] = spec.Values[i]
				}
			}
			return true
		})
	}
	// What only ever is a part of a statement is judged with the whole.
	parts := map[ast.Expr]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if sum, ok := n.(*ast.BinaryExpr); ok {
				for _, side := range []ast.Expr{sum.X, sum.Y} {
					if name, ok := side.(*ast.Ident); ok && constants[name.Name] != nil {
						parts[constants[name.Name]] = true
					}
				}
			}
			return true
		})
	}
	found, used := 0, map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			expr, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			if _, name := expr.(*ast.Ident); name || parts[expr] {
				return false // a constant is judged where it is declared
			}
			sql, ok := fold(expr, constants)
			if !ok {
				return true
			}
			if !statement.MatchString(sql) || !tableUse.MatchString(sql) {
				return false
			}
			found++
			if tables := unnamed(sql); len(tables) > 0 {
				for part := range free {
					if strings.Contains(sql, part) {
						used[part] = true
						return false
					}
				}
				t.Errorf("a statement that does not say whose %v:\n%s", tables, sql)
			}
			return false
		})
	}
	if found < 20 {
		t.Errorf("only %d statements were found; the test sees nothing", found)
	}
	for part, reason := range free {
		if !used[part] {
			t.Errorf("nothing needs the exception %q (%s)", part, reason)
		}
	}
}

// fold puts a constant string expression together; what is not constant, such as
// a condition that a caller passes, becomes a question mark.
func fold(e ast.Expr, constants map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.ParenExpr:
		return fold(e.X, constants)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, ok := fold(e.X, constants)
		right, also := fold(e.Y, constants)
		if !ok && !also {
			return "", false
		}
		if !ok {
			left = " ? "
		}
		if !also {
			right = " ? "
		}
		return left + right, true
	case *ast.Ident:
		if value, ok := constants[e.Name]; ok {
			return fold(value, constants)
		}
	}
	return "", false
}
