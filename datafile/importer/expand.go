package importer

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// expander resolves "$ENV:NAME" and "$FILE:path", each once: what comes back is
// never looked at again, and a plan that is made anew sees the same values.
type expander struct {
	im   *Importer
	seen map[reference]expanded
}

// reference is a value as written; folder is that of the data file, "" where
// nothing depends on it.
type reference struct{ text, folder string }

type expanded struct{ value, problem string }

func newExpander(im *Importer) *expander {
	return &expander{im: im, seen: map[reference]expanded{}}
}

// text returns the value that s of the data file of that name stands for, whether
// it came from elsewhere, and what is wrong with it ("" when nothing).
func (e *expander) text(s, file string) (value string, foreign bool, problem string) {
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
	ref := reference{text: s}
	if isFile {
		ref.folder = filepath.Dir(file)
	}
	x, ok := e.seen[ref]
	if !ok {
		if isEnv {
			x = e.env(name)
		} else {
			x = e.file(path, ref.folder)
		}
		e.seen[ref] = x
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
	var walk func(v any, folder string)
	walk = func(v any, folder string) {
		switch v := v.(type) {
		case string:
			variable, path := placeholder(v)
			if variable != "" {
				variables = append(variables, variable)
			}
			if path != "" {
				paths = append(paths, within(folder, path))
			}
		case []any:
			for _, e := range v {
				walk(e, folder)
			}
		case map[string]any:
			for _, e := range v {
				walk(e, folder)
			}
		}
	}
	for i := range f.Records {
		r := &f.Records[i]
		folder := filepath.Dir(f.NameOf(r))
		for _, field := range r.Fields {
			walk(field.Text, folder)
			walk(field.Literal, folder)
		}
	}
	slices.Sort(variables)
	slices.Sort(paths)
	return slices.Compact(variables), slices.Compact(paths)
}

// within is a path of a data file as ReadFile is asked for it.
func within(folder, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
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

func (e *expander) file(path, folder string) expanded {
	if e.im.ReadFile == nil {
		return expanded{problem: "$FILE: is read by the command line's import only"}
	}
	if path == "" {
		return expanded{problem: "$FILE: needs the path of a file"}
	}
	b, err := e.im.ReadFile(within(folder, path))
	if err != nil {
		problem := "the file " + path + " can't be read"
		if why := fault.Message(err); why != "" {
			problem += ": " + why
		}
		return expanded{problem: problem}
	}
	// Editors end a file with a line feed, which is no part of a password. All
	// else is the operator's, a carriage return too.
	s := strings.TrimSuffix(string(b), "\n")
	switch {
	case s == "":
		return expanded{problem: "the file " + path + " is empty"}
	case !utf8.ValidString(s):
		return expanded{problem: "the file " + path + " is not valid UTF-8"}
	}
	return expanded{value: s}
}
