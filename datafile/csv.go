package datafile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"path/filepath"
	"strings"
)

// csv reads the form that EDE exports: the file's name is the model, the first
// column is the id, "/id" behind a column's name makes its cells references.
// An empty cell is an absent field; a config cell holds a literal.
func (p *parser) csv() {
	model := strings.TrimSuffix(filepath.Base(p.name), filepath.Ext(p.name))
	r := csv.NewReader(bytes.NewReader(p.data))
	header, err := r.Read()
	if err != nil {
		p.csvError(err)
		return
	}
	if len(header) > maxKeys {
		p.problem(Position{1, 1}, "", "a record has at most %d fields", maxKeys)
		return
	}
	columns := make([]string, len(header))
	seen := map[string]bool{}
	for i, h := range header {
		columns[i] = strings.TrimSpace(h)
		line, column := r.FieldPos(i)
		if columns[i] == "" || seen[columns[i]] {
			p.problem(Position{line, column}, "", "column %d has no name of its own", i+1)
		}
		seen[columns[i]] = true
	}
	if columns[0] != "id" {
		p.problem(Position{1, 1}, "", "the first column must be id")
		return
	}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.csvError(err)
			return
		}
		line, column := r.FieldPos(0)
		rec := Record{ID: strings.TrimSpace(cells[0]), Model: model, Position: Position{line, column}}
		for i := 1; i < len(cells); i++ {
			if strings.TrimSpace(cells[i]) == "" {
				continue
			}
			line, column := r.FieldPos(i)
			if !p.spend() {
				p.tooMany(Position{line, column})
				return
			}
			rec.Fields = append(rec.Fields, p.csvField(columns[i], cells[i], rec.ID, Position{line, column}))
		}
		p.add(rec)
		if p.overspent {
			return
		}
	}
}

func (p *parser) csvField(column, cell, record string, at Position) Field {
	f := Field{Name: column, Position: at}
	name, isRef := strings.CutSuffix(column, "/id")
	switch {
	case isRef:
		f.Name, f.Value = name, Value{Form: Ref, Text: strings.TrimSpace(cell)}
	case column == "config":
		v, keys, err := parseLiteral(cell, p.limits.Depth, p.spendInside)
		if err != nil {
			p.problem(at, record, "config: %s", err.message)
			break
		}
		f.Value, f.Keys = literalValue(v), map[string]Position{}
		for k := range keys {
			f.Keys[k] = at
		}
	default:
		f.Value = Value{Form: Text, Text: strings.TrimSpace(cell)}
	}
	return f
}

func (p *parser) csvError(err error) {
	at, message := Position{1, 1}, "the CSV is not well-formed"
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		message = "the file is empty; its first line names the columns"
	case errors.As(err, &parse):
		at = Position{parse.Line, max(1, parse.Column)}
		if errors.Is(err, csv.ErrFieldCount) {
			message = "this line has another number of cells than the first one"
		}
	}
	p.problem(at, "", "%s", message)
}
