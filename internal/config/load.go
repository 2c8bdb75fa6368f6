package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds the config file. A real one has a few kilobytes.
const maxFile = 1 << 20

// Options say where a config comes from.
type Options struct {
	Path    string            // of the YAML file; "" takes PATCHBAY_CONFIG, else none is read
	Environ []string          // as os.Environ gives it; nil reads none
	Flags   map[string]string // dotted key -> text, in the form of an environment variable's value
	Mode    Mode
}

// outside are the variables that commands read themselves.
var outside = []string{"PATCHBAY_CONFIG", "PATCHBAY_URL", "PATCHBAY_TOKEN", "PATCHBAY_TOKEN_FILE"}

const prefix = "PATCHBAY_"

// Load reads flags over environment over file over defaults and validates the
// whole. The error is a *Error with every problem found, and is
// fault.InvalidArgument. Warnings come with an error too.
func Load(o Options) (*Config, []Warning, error) {
	l := &loader{c: defaults(o.Mode), at: map[string]string{}}
	env := environ(o.Environ)
	path := o.Path
	if path == "" {
		path = env["PATCHBAY_CONFIG"]
	}
	if path != "" {
		l.readFile(path)
	}
	l.environment(env)
	l.flags(o.Flags)
	l.validate(o.Mode)
	l.files(o.Mode)
	if len(l.problems) > 0 {
		return nil, l.warnings, &Error{Problems: l.problems}
	}
	return l.c, l.warnings, nil
}

// loader collects; every step goes on after a problem, so that an operator sees
// all of them in one run.
type loader struct {
	c        *Config
	problems []Problem
	warnings []Warning
	at       map[string]string // where each given key stands; the last to give it wins
	broken   bool              // the file could not be read: what is missing may be in it
}

func (l *loader) problem(path, at, message string) {
	l.problems = append(l.problems, Problem{Path: path, At: at, Message: message})
}

// given tells whether a key was set anywhere.
func (l *loader) given(path string) bool { return l.at[path] != "" }

// place is where a key stands, or, for one that is missing, what it is missing
// from; "" when nothing around it was given.
func (l *loader) place(path string) string {
	for path != "" {
		if at := l.at[path]; at != "" {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

func (l *loader) readFile(path string) {
	fail := func(message string) {
		l.broken = true
		l.problem("", path, message)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fail("the config file does not exist")
		return
	case err != nil:
		fail("the config file can't be read")
		return
	case st.IsDir():
		fail("the config file is a folder")
		return
	case st.Size() > maxFile:
		fail("the config file is larger than 1 MiB")
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		fail("the config file can't be read")
		return
	}
	d := decoder{l: l, file: filepath.Base(path)}
	if !d.document(data) {
		l.broken = true
	}
}

func environ(list []string) map[string]string {
	m := make(map[string]string)
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, prefix) {
			m[k] = v
		}
	}
	return m
}

// environment matches variables against the known keys. Names are never split
// at underscores: PATCHBAY_VAULT_AUTH_ROLE_ID would have several readings.
func (l *loader) environment(env map[string]string) {
	known := make(map[string]leaf)
	for _, k := range leaves(l.c) {
		known[variable(k.path)] = k
	}
	names := make([]string, 0, len(env))
	for n := range env {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		k, ok := known[name]
		switch {
		case ok:
			l.text(k, name, env[name])
		case slices.Contains(outside, name):
		default:
			// Kubernetes injects PATCHBAY_SERVICE_HOST and the like beside a
			// Service of this name, so an unknown variable can't be an error.
			w := "no key has this variable; it is ignored"
			var candidates []string
			for n := range known {
				candidates = append(candidates, n)
			}
			if s := nearest(name, candidates); s != "" {
				w += "; did you mean " + s + "?"
			}
			l.warnings = append(l.warnings, Warning{At: name, Message: w})
		}
	}
}

func (l *loader) flags(flags map[string]string) {
	known := make(map[string]leaf)
	for _, k := range leaves(l.c) {
		known[k.path] = k
	}
	names := make([]string, 0, len(flags))
	for n := range flags {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		if k, ok := known[name]; ok {
			l.text(k, "flag", flags[name])
		} else {
			l.problem(name, "flag", "unknown key")
		}
	}
}

// text sets a leaf from a flag's or variable's text.
func (l *loader) text(k leaf, at, text string) {
	// What the file says below an overridden key is no more.
	for path := range l.at {
		if strings.HasPrefix(path, k.path+".") || strings.HasPrefix(path, k.path+"[") {
			delete(l.at, path)
		}
	}
	l.at[k.path] = at
	// A list is told by its commas; who writes it as JSON all the same, as lists
	// of objects are, is understood. [fd00::1]:587 is no JSON.
	if t := k.value.Type(); (isScalarList(t) || t == loopbackType) && strings.HasPrefix(strings.TrimSpace(text), "[") && json.Valid([]byte(text)) {
		d := decoder{l: l, at: at}
		d.json(k, []byte(text))
		return
	}
	if isScalar(k.value.Type()) {
		if message := setText(k.value, text); message != "" {
			l.problem(k.path, at, message)
		}
		return
	}
	if isScalarList(k.value.Type()) {
		if message := setList(k.value, text); message != "" {
			l.problem(k.path, at, message)
		}
		return
	}
	if !json.Valid([]byte(text)) {
		l.problem(k.path, at, "expected JSON")
		return
	}
	d := decoder{l: l, at: at}
	d.json(k, []byte(text))
}
