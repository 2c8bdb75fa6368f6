package httpkind_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers/httpkind"
)

// Each file below testdata/bad begins with what is to be said about it.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want, ok := strings.CutPrefix(first, "# want: ")
			if !ok {
				t.Fatal("the first line does not say what is wanted")
			}
			p, problems := httpkind.Parse("bad.yaml", data)
			if p != nil {
				t.Error("a provider was made of it")
			}
			var lines []string
			for _, problem := range problems {
				lines = append(lines, problem.String())
				if problem.File != "bad.yaml" {
					t.Errorf("%v names no file", problem)
				}
			}
			if text := strings.Join(lines, "\n"); !strings.Contains(text, want) {
				t.Errorf("got:\n%s\nwant: %s", text, want)
			}
		})
	}
}

func TestEveryProblemIsListed(t *testing.T) {
	t.Parallel()
	_, problems := httpkind.Parse("k.yaml", []byte("kind: bad\ncategory: email\nlable: Bad\nparams:\n  - {nme: a}\n  - {name: b, type: 3}\n"))
	if len(problems) != 3 || problems[0].Line != 3 || problems[1].Line != 5 || problems[2].Line != 6 {
		t.Errorf("got %v", problems)
	}
}

func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"a large file":         strings.Repeat("#\n", 40<<10),
		"brackets":             strings.Repeat("[", 60<<10),
		"braces":               strings.Repeat("{a: ", 15<<10),
		"dashes on a line":     strings.Repeat("- ", 30<<10) + "a",
		"indentation":          indented(400),
		"a thousand documents": strings.Repeat("---\na: b\n", 1000),
		"keys":                 keys(5000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p, problems := httpkind.Parse("k.yaml", []byte(data)); p != nil || len(problems) == 0 || len(problems) > 51 {
				t.Errorf("%d problems", len(problems))
			}
		})
	}
}

func indented(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()[:min(b.Len(), 60<<10)]
}

func keys(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString("kind: a\n")
	}
	return b.String()
}

// Whatever a file holds, it is a kind or a list of problems.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "../builtin/*/kind.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, problems := httpkind.Parse("k.yaml", data)
		if (p == nil) != (len(problems) > 0) {
			t.Fatalf("provider %v, problems %v", p, problems)
		}
		if p != nil && p.Schema().Validate() != nil {
			t.Fatal("a kind with an invalid schema")
		}
	})
}
