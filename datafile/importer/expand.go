package importer

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/datafile"
)

// expander resolves "$ENV:NAME" and "$FILE:path", each once: what comes back is
// never looked at again, and a plan that is made anew sees the same values.
type expander struct {
	im     *Importer
	folder string // of the data file
	seen   map[string]expanded
}

type expanded struct{ value, problem string }

func newExpander(im *Importer, file string) *expander {
	return &expander{im: im, folder: filepath.Dir(file), seen: map[string]expanded{}}
}

// text returns the value that s stands for, whether it came from elsewhere, and
// what is wrong with it ("" when nothing).
func (e *expander) text(s string) (value string, foreign bool, problem string) {
	rest := strings.TrimLeft(s, "$")
	dollars := len(s) - len(rest)
	name, isEnv := strings.CutPrefix(rest, "ENV:")
	path, isFile := strings.CutPrefix(rest, "FILE:")
	switch {
	case dollars == 0 || !isEnv && !isFile:
		return s, false, ""
	case dollars > 1:
		return s[1:], false, "" // "$$ENV:" writes a literal "$ENV:"
	}
	x, ok := e.seen[s]
	if !ok {
		if isEnv {
			x = e.env(name)
		} else {
			x = e.file(path)
		}
		e.seen[s] = x
	}
	return x.value, true, x.problem
}

// placeholder splits "$ENV:NAME" and "$FILE:path"; both are "" for anything else.
func placeholder(s string) (variable, path string) {
	if name, ok := strings.CutPrefix(s, "$ENV:"); ok {
		return name, ""
	}
	path, _ = strings.CutPrefix(s, "$FILE:")
	if path == s {
		return "", ""
	}
	return "", path
}

// Placeholders lists the variables and the files (as ReadFile is asked for
// them) that a data file refers to, each once. Whoever hands a file to another
// process resolves them first: they are the caller's, not that process's.
func Placeholders(f *datafile.File) (variables, paths []string) {
	folder := filepath.Dir(f.Name)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			variable, path := placeholder(v)
			if variable != "" && !slices.Contains(variables, variable) {
				variables = append(variables, variable)
			}
			if path != "" && !filepath.IsAbs(path) {
				path = filepath.Join(folder, path)
			}
			if path != "" && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, r := range f.Records {
		for _, field := range r.Fields {
			walk(field.Text)
			walk(field.Literal)
		}
	}
	slices.Sort(variables)
	slices.Sort(paths)
	return variables, paths
}

// escape is the inverse for a value that must be read literally.
func escape(s string) string {
	rest := strings.TrimLeft(s, "$")
	if len(rest) < len(s) && (strings.HasPrefix(rest, "ENV:") || strings.HasPrefix(rest, "FILE:")) {
		return "$" + s
	}
	return s
}

func (e *expander) env(name string) expanded {
	if e.im.Env == nil {
		return expanded{problem: "$ENV: is read by the command line's import only"}
	}
	if name == "" || strings.ContainsAny(name, "= \t\r\n\x00") {
		return expanded{problem: "$ENV: needs the name of a variable"}
	}
	v, ok := e.im.Env(name)
	switch {
	case !ok:
		return expanded{problem: "the environment variable " + name + " is not set"}
	case v == "":
		// An empty secret from a typo in a deployment is worse than a failed import.
		return expanded{problem: "the environment variable " + name + " is set but empty"}
	case !utf8.ValidString(v):
		return expanded{problem: "the environment variable " + name + " is not valid UTF-8"}
	}
	return expanded{value: v}
}

func (e *expander) file(path string) expanded {
	if e.im.ReadFile == nil {
		return expanded{problem: "$FILE: is read by the command line's import only"}
	}
	if path == "" {
		return expanded{problem: "$FILE: needs the path of a file"}
	}
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(e.folder, path)
	}
	b, err := e.im.ReadFile(full)
	if err != nil {
		return expanded{problem: "the file " + path + " can't be read"}
	}
	s := string(b)
	if cut, ok := strings.CutSuffix(s, "\n"); ok {
		s = strings.TrimSuffix(cut, "\r")
	}
	switch {
	case s == "":
		return expanded{problem: "the file " + path + " is empty"}
	case !utf8.ValidString(s):
		return expanded{problem: "the file " + path + " is not valid UTF-8"}
	}
	return expanded{value: s}
}
