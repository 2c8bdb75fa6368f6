package httpkind

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/providers"
)

// maxFiles bounds how many files a folder may hold.
const maxFiles = 200

// LoadDir makes a kind of every .yaml and .yml file of a folder, in the order of
// their names; it does not look into folders below. Names that begin with a dot
// are left alone: editors and Kubernetes' mounts have them. A file that can't be
// used is a problem that names its line, and stops nothing else; so is one that
// takes the name of a kind in taken (those that the process has already) or of an
// earlier file.
func LoadDir(dir string, taken ...providers.Provider) (kinds []providers.Provider, problems []Problem) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, []Problem{{File: dir, Message: "the folder can't be read: " + reason(err)}}
	}
	files := 0
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		if files++; files > maxFiles {
			return kinds, append(problems, Problem{File: dir, Message: fmt.Sprintf("has more than %d kinds; the others are left out", maxFiles)})
		}
		file := filepath.Join(dir, name)
		data, err := read(file)
		if err != nil {
			problems = append(problems, Problem{File: file, Message: "can't be read: " + reason(err)})
			continue
		}
		p, bad := Parse(file, data)
		if bad != nil {
			problems = append(problems, bad...)
			continue
		}
		// The registry knows what clashes; asked file by file it blames the right one.
		all := append(slices.Concat(taken, kinds), p)
		if _, err := providers.NewRegistry(all...); err != nil {
			problems = append(problems, Problem{File: file, Line: 1, Column: 1, Path: "kind", Message: strings.ReplaceAll(err.Error(), "\n", "; ")})
			continue
		}
		kinds = append(kinds, p)
	}
	return kinds, problems
}

// read reads a regular file, one byte more than a kind may have at the most. A
// link is followed, since mounted files are links; a pipe would block for good.
func read(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	return io.ReadAll(io.LimitReader(f, fileLimit+1))
}

// reason is an error without the path, which its reader knows.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
