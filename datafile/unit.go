package datafile

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
)

// Source is one data file that is still to be parsed.
type Source struct {
	Name    string // as Parse takes it
	Content io.Reader
}

// Units groups the names of files that were given together, in order, into what
// is imported at once: each file by itself, but all CSV files as one, in the
// place of the first. A CSV file holds one model only, so a connector and its
// params are never in one file: a set of them is what one XML file is.
func Units(names []string) [][]string {
	var units [][]string
	csv := -1
	for _, name := range names {
		switch {
		case format(name) != formatCSV:
			units = append(units, []string{name})
		case csv < 0:
			csv = len(units)
			units = append(units, []string{name})
		default:
			units[csv] = append(units[csv], name)
		}
	}
	return units
}

// ParseUnit parses the files of one unit and joins their records, in order, into
// one File. The limits hold for each file.
//
// Errors: as [Parse], the problems of all files at once.
func ParseUnit(sources []Source, o Limits) (*File, error) {
	var files []*File
	var problems Problems
	for _, s := range sources {
		f, err := Parse(s.Name, s.Content, o)
		var found Problems
		switch {
		case err == nil:
			files = append(files, f)
		case errors.As(err, &found):
			problems = append(problems, found...)
		default:
			return nil, err
		}
	}
	if len(problems) > 0 {
		return nil, problems.Sort()
	}
	return join(files), nil
}

// join makes one file of several, whose records remember where they stand.
func join(files []*File) *File {
	if len(files) == 1 {
		return files[0]
	}
	var out File
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
		for _, r := range f.Records {
			r.File = f.Name
			out.Records = append(out.Records, r)
		}
	}
	out.Name = strings.Join(names, ", ")
	return &out
}

type formatName int

const (
	formatXML formatName = iota
	formatYAML
	formatCSV
)

// format is what a file's name says it is written in.
func format(name string) formatName {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		return formatYAML
	case ".csv":
		return formatCSV
	}
	return formatXML
}
