package importer

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/providers"
)

// attachRows gives each ir.connector.param row to its connector.
func (p *planner) attachRows() {
	for _, row := range p.params {
		p.checkRow(row)
		ref, f := p.reference(row.Record, "connector_id")
		if ref == "" {
			p.problem(row.Position, row.Record, "connector_id is missing")
			p.lintRow(row)
			continue
		}
		c, problem := p.rowConnector(row, ref)
		if problem != "" {
			p.problem(f.Position, row.Record, "%s", problem)
			p.lintRow(row)
			continue
		}
		c.rows = append(c.rows, row)
	}
	for _, c := range p.connectors {
		slices.SortStableFunc(c.rows, func(a, b *paramRecord) int {
			return cmp.Or(cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.order, b.order))
		})
	}
}

// lintRow checks what can be checked of a row whose connector is unknown: the
// variables and files that it lacks are listed with all the others.
func (p *planner) lintRow(row *paramRecord) {
	if key, at := p.text(row.Record, "key"); key == "" {
		p.problem(at, row.Record, "key is missing")
	}
	if f, ok := p.field(row.Record, "value"); ok {
		p.value(row.Record, f)
	}
}

// rowConnector finds the connector of a row: in the file, else in the store of
// the tenant that is meant anyway; or says what is wrong.
func (p *planner) rowConnector(row *paramRecord, ref string) (*connectorRecord, string) {
	implied := p.impliedTenant()
	for _, s := range spellings(ref, datafile.ModelConnector) {
		var found *connectorRecord
		for _, c := range p.by.connectors[s] {
			switch {
			case found == nil || !implied.IsZero() && c.tenant == implied:
				found = c
			case found.tenant != c.tenant && found.tenant != implied:
				return nil, "connector_id refers to connectors of several tenants; put them into files of their own"
			}
		}
		if found != nil {
			return found, ""
		}
		t := p.states[implied]
		if t == nil {
			continue
		}
		stored := t.living[s]
		if stored == nil {
			stored = t.byID[s]
		}
		if stored != nil {
			return p.partial(t, stored, row), ""
		}
	}
	if implied.IsZero() {
		return nil, "connector_id refers to no connector of the file; for a stored one use --tenant"
	}
	return nil, "connector_id refers to no known connector"
}

// partial stands for a stored connector of which the file has rows alone. What
// is wrong with it as a whole is told at its first row.
func (p *planner) partial(t *tenantState, stored *connector.Connector, first *paramRecord) *connectorRecord {
	if c := p.by.partial[stored.ID]; c != nil {
		return c
	}
	c := &connectorRecord{
		Record:  &datafile.Record{ID: label(stored), Model: datafile.ModelConnector, File: first.File, Position: first.Position},
		tenant:  t.id,
		partial: stored,
	}
	p.connectors = append(p.connectors, c)
	p.by.partial[stored.ID] = c
	return c
}

// checkRow reads what a row holds besides its key and value.
func (p *planner) checkRow(row *paramRecord) {
	r := row.Record
	if f, ok := p.field(r, "sequence"); ok {
		n, isInt := f.Literal.(int64)
		if f.Form == datafile.Text {
			f.Text, isInt = p.plain(r, f)
			if f.Text != "" {
				var err error
				n, err = strconv.ParseInt(f.Text, 10, 64)
				isInt = err == nil
			}
		}
		if !isInt && f.Text != "" || f.Form == datafile.Ref || f.Form == datafile.Literal && !isInt {
			p.problem(f.Position, r, "sequence must be a whole number")
		}
		row.sequence = n
	}
	if f, ok := p.field(r, "file_id"); ok {
		p.problem(f.Position, r, "file_id can't be read here; write the value as $FILE:path")
	}
	if kind, at := p.text(r, "value_type"); kind != "" && kind != "text" && kind != "file" {
		p.problem(at, r, "value_type must be text or file")
	}
	// The schema decides what is secret; the field is only checked for its form.
	p.boolean(r, "is_secret")
}

// nested turns a connector's rows into a nested map, in order of sequence: a
// later row of the same key wins.
// Rows whose noupdate is not the given one are passed over.
func (p *planner) nested(c *connectorRecord, out *content, noUpdate ...bool) (map[string]any, bool) {
	root, ok := map[string]any{}, true
	given := map[string]*paramRecord{}
	for _, row := range c.rows {
		if !slices.Contains(noUpdate, row.NoUpdate) {
			continue
		}
		key, keyAt := p.text(row.Record, "key")
		if key == "" {
			p.problem(keyAt, row.Record, "key is missing")
			ok = false
			continue
		}
		if first, dup := given[key]; dup && first.sequence == row.sequence {
			p.problem(keyAt, row.Record, "this key is given twice with the same sequence, first at %s", p.where(first.Record, first.Position, row.Record))
			ok = false
			continue
		}
		given[key] = row
		f, has := p.field(row.Record, "value")
		if !has {
			continue
		}
		value, good := p.value(row.Record, f)
		ok = ok && good
		parts := strings.Split(key, ".")
		if slices.Contains(parts, "") || len(parts) > 16 {
			p.problem(keyAt, row.Record, "a key consists of names joined by single dots, at most 16 of them")
			ok = false
			continue
		}
		m := root
		for _, part := range parts[:len(parts)-1] {
			inner, isMap := m[part].(map[string]any)
			if _, taken := m[part]; taken && !isMap {
				p.problem(keyAt, row.Record, "this key lies inside of another row's value")
				ok = false
				m = map[string]any{}
				break
			}
			if !isMap {
				inner = map[string]any{}
				m[part] = inner
			}
			m = inner
		}
		last := parts[len(parts)-1]
		if _, isMap := m[last].(map[string]any); isMap && f.Form == datafile.Text {
			p.problem(keyAt, row.Record, "this key holds other rows' values")
			ok = false
			continue
		}
		m[last] = value
		out.place(parts, place{keyAt, row.Record})
	}
	return root, ok
}

// place is where something is written, and in which record.
type place struct {
	at     datafile.Position
	record *datafile.Record
}

// place remembers a row's place under every name that its dotted key may become:
// a kind's ImportConfig joins parts with "_" and drops wrappers around them. The
// whole key is a surer name than a part of another one.
func (in content) place(parts []string, at place) {
	for i := range parts {
		for j := i + 1; j <= len(parts); j++ {
			name := strings.Join(parts[i:j], "_")
			if _, taken := in.places[name]; !taken || j-i == len(parts) {
				in.places[name] = at
			}
		}
	}
}

// value expands a row's value.
func (p *planner) value(r *datafile.Record, f datafile.Field) (any, bool) {
	switch f.Form {
	case datafile.Ref:
		p.problem(f.Position, r, "value must be text, not a reference")
		return nil, false
	case datafile.Text:
		v, _, problem := p.expand.text(f.Text, p.file.NameOf(r))
		if problem != "" {
			p.problem(f.Position, r, "%s", problem)
		}
		return v, problem == ""
	}
	return p.expandAll(r, f.Position, f.Literal)
}

// expandAll expands every text inside a literal value. What came from outside is
// text for the schema to coerce; the rest keeps its type.
func (p *planner) expandAll(r *datafile.Record, at datafile.Position, v any) (any, bool) {
	ok := true
	switch v := v.(type) {
	case string:
		s, foreign, problem := p.expand.text(v, p.file.NameOf(r))
		if problem != "" {
			p.problem(at, r, "%s", problem)
		}
		if foreign {
			return providers.TextValue(s), problem == ""
		}
		return s, problem == ""
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			x, good := p.expandAll(r, at, e)
			list[i], ok = x, ok && good
		}
		return list, ok
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			x, good := p.expandAll(r, at, e)
			m[k], ok = x, ok && good
		}
		return m, ok
	}
	return v, true
}
