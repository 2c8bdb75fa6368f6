package config

import (
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Problem is one thing wrong with a config. It never repeats a value: an
// operator who pastes a password into the wrong key should not find it in a log.
type Problem struct {
	Path    string // dotted key, list items as [0]; "" for the file as a whole
	At      string // file:line:column, a variable's name, or "flag"; may be ""
	Message string
}

// String is one line.
func (p Problem) String() string {
	var parts []string
	if p.Path != "" {
		parts = append(parts, p.Path)
	}
	if p.At != "" {
		if len(parts) > 0 {
			parts[0] += " (" + p.At + ")"
		} else {
			parts = append(parts, p.At)
		}
	}
	return strings.Join(append(parts, p.Message), ": ")
}

// Warning is something an operator should know that stops nothing.
type Warning Problem

// String is one line.
func (w Warning) String() string { return Problem(w).String() }

// Error holds every problem of a config.
type Error struct{ Problems []Problem }

// Error is one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap classifies the error.
func (e *Error) Unwrap() error { return fault.InvalidArgument }

// nearest returns the candidate that s was probably meant to be, or "".
func nearest(s string, candidates []string) string {
	best, bestDistance := "", max(2, len(s)/4)+1
	for _, c := range candidates {
		if d := distance(s, c); d < bestDistance || d == bestDistance && best != "" && c < best {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			previous, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, previous+cost)
		}
	}
	return row[len(b)]
}
