package importer

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/datafile"
)

// modelFields lists the fields of a model, both generations of EDE's names
// included; nil for an unknown model.
func modelFields(model string) []string {
	switch model {
	case datafile.ModelTenant:
		return []string{"key", "name", "company_name", "status", "pool_id"}
	case datafile.ModelOrganization:
		return []string{"key", "name", "tenant_id", "active"}
	case datafile.ModelConnector:
		return []string{
			"name", "category", "kind", "provider_type", "organization_id", "tenant_id",
			"is_default", "active", "is_enabled", "config", "status", "state", "block_pinned",
		}
	case datafile.ModelParam:
		return []string{"connector_id", "key", "value", "value_type", "file_id", "is_secret", "sequence"}
	}
	return nil
}

// maxProblems bounds what is reported at once. It is far above what people read,
// and all missing variables of a large file must fit.
const maxProblems = 10_000

func (p *planner) problem(at datafile.Position, r *datafile.Record, format string, args ...any) {
	if len(p.problems) >= maxProblems {
		return
	}
	p.problems = append(p.problems, datafile.Problem{
		File: p.file.NameOf(r), Position: at, Record: r.ID, Message: fmt.Sprintf(format, args...),
	})
}

// where spells a place of one record for a problem of another, with its file
// where that is another one.
func (p *planner) where(r *datafile.Record, at datafile.Position, other *datafile.Record) string {
	if name := p.file.NameOf(r); name != p.file.NameOf(other) {
		return fmt.Sprintf("%s:%d", name, at.Line)
	}
	return fmt.Sprintf("line %d", at.Line)
}

// vocabulary checks models and names of fields.
func (p *planner) vocabulary(r *datafile.Record) bool {
	known := modelFields(r.Model)
	if known == nil {
		if r.Model != "" {
			p.problem(r.Position, r, "unknown model %q%s", r.Model, didYouMean(r.Model, datafile.Models()))
		}
		return false
	}
	for _, f := range r.Fields {
		if f.Name != "" && !slices.Contains(known, f.Name) {
			p.problem(f.Position, r, "unknown field %q of %s%s", f.Name, r.Model, didYouMean(f.Name, known))
		}
	}
	return true
}

// field finds a field by its name or an alias; a literal None is an absent field.
func (p *planner) field(r *datafile.Record, names ...string) (datafile.Field, bool) {
	var found datafile.Field
	ok := false
	for _, n := range names {
		f, has := r.Field(n)
		if !has || f.Form == datafile.Literal && f.Literal == nil {
			continue
		}
		if ok {
			p.problem(f.Position, r, "%s and %s are the same field; give one of them", found.Name, f.Name)
			continue
		}
		found, ok = f, true
	}
	return found, ok
}

// plain is what a text stands for: "$ENV:" and "$FILE:" stand for a whole value
// in every field. Problems are reported; false then.
func (p *planner) plain(r *datafile.Record, f datafile.Field) (string, bool) {
	s, _, problem := p.expand.text(f.Text, p.file.NameOf(r))
	if problem != "" {
		p.problem(f.Position, r, "%s", problem)
	}
	return s, problem == ""
}

// text reads a text field; "" when absent.
func (p *planner) text(r *datafile.Record, names ...string) (string, datafile.Position) {
	f, ok := p.field(r, names...)
	if !ok {
		return "", r.Position
	}
	if f.Form != datafile.Text {
		p.problem(f.Position, r, "%s must be text", f.Name)
		return "", f.Position
	}
	s, _ := p.plain(r, f)
	return s, f.Position
}

// maxName bounds the names of tenants, organizations and connectors, in characters.
const maxName = 255

// name reads what a record is called for people; "" when absent.
func (p *planner) name(r *datafile.Record, names ...string) string {
	s, at := p.text(r, names...)
	switch {
	case utf8.RuneCountInString(s) > maxName:
		p.problem(at, r, "name must have at most %d characters", maxName)
	case strings.ContainsFunc(s, unicode.IsControl):
		p.problem(at, r, "name must be one line without control characters")
	}
	return s
}

// boolean reads a boolean field: a literal one, or true, false, 1, 0 in any
// case. Nil when absent.
func (p *planner) boolean(r *datafile.Record, names ...string) (*bool, datafile.Position) {
	f, ok := p.field(r, names...)
	if !ok || f.Form == datafile.Text && f.Text == "" {
		return nil, r.Position
	}
	var b bool
	switch v := f.Literal.(type) {
	case bool:
		b = v
	case int64:
		if v != 0 && v != 1 {
			p.problem(f.Position, r, "%s must be true or false", f.Name)
		}
		b = v == 1
	default:
		text, good := p.plain(r, f)
		if !good {
			return nil, f.Position
		}
		switch strings.ToLower(text) {
		case "true", "1":
			b = true
		case "false", "0":
		default:
			p.problem(f.Position, r, "%s must be true or false", f.Name)
		}
	}
	return &b, f.Position
}

// reference reads a field that is a ref or an id as text; "" when absent.
func (p *planner) reference(r *datafile.Record, name string) (string, datafile.Field) {
	f, ok := p.field(r, name)
	if !ok {
		return "", datafile.Field{Position: r.Position}
	}
	if f.Form == datafile.Literal {
		p.problem(f.Position, r, "%s must be a reference or an id", f.Name)
		return "", f
	}
	if f.Form == datafile.Text {
		f.Text, _ = p.plain(r, f)
	}
	return f.Text, f
}

// spellings are the two ways in which a ref may name a record.
func spellings(ref, model string) []string {
	if short, ok := strings.CutPrefix(ref, model+"."); ok && short != "" {
		return []string{ref, short}
	}
	return []string{ref}
}

// lastSegment is the id that a record id stands for when there is no key.
func lastSegment(id string) string { return id[strings.LastIndexByte(id, '.')+1:] }
