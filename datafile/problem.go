package datafile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Problem is one thing that is wrong in a data file. Message never repeats a
// value of the file: any of them may be a secret.
type Problem struct {
	File string
	Position
	Record  string // id of the record; "" outside of records
	Message string
}

func (p Problem) String() string {
	if p.Record == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: record %q: %s", p.File, p.Line, p.Column, p.Record, p.Message)
}

// Problems is everything that is wrong in one data file, or in those that are
// imported as one, as one error. It
// carries fault.InvalidArgument with a violation per problem.
type Problems []Problem

// Error prints one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the code, the public message and the violations.
func (ps Problems) Unwrap() error {
	vs := make([]fault.Violation, len(ps))
	for i, p := range ps {
		vs[i] = fault.Violation{Code: string(fault.InvalidArgument), Message: p.String()}
	}
	return fault.New(fault.InvalidArgument, "the data file has problems; nothing was imported").WithViolations(vs...)
}

// Sort orders problems by file and place, then message, and drops duplicates.
func (ps Problems) Sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ps)
}
