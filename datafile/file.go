package datafile

// The models that a data file may hold.
const (
	ModelTenant       = "gateway.tenant"
	ModelOrganization = "res.organization"
	ModelConnector    = "ir.connector"
	ModelParam        = "ir.connector.param"
)

// Models lists every model.
func Models() []string {
	return []string{ModelTenant, ModelOrganization, ModelConnector, ModelParam}
}

// File is a parsed data file, or several that [ParseUnit] joined.
type File struct {
	Name    string // as given to Parse; of joined files all names, by comma
	Records []Record
}

// NameOf is the name of the file that r stands in: what problems name, and what
// "$FILE:" paths are relative to.
func (f *File) NameOf(r *Record) string {
	if r.File != "" {
		return r.File
	}
	return f.Name
}

// Record is one record, its fields in file order, each name once.
type Record struct {
	ID       string // as written
	Model    string // as written, not yet checked
	NoUpdate bool
	File     string // the joined file that it stands in; else "": see NameOf
	Fields   []Field
	Position
}

// Field returns the field of the given name.
func (r *Record) Field(name string) (Field, bool) {
	for _, f := range r.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Field is one named value with the place where it is written.
type Field struct {
	Name string
	Value
	Position
	// Keys holds where the top-level keys of a dict are written.
	Keys map[string]Position
}

// Position is a place in a file, counted from 1; columns count bytes.
type Position struct{ Line, Column int }

// Form says how a value is written.
type Form int

// The forms.
const (
	Text    Form = iota // plain text, and a literal that is one string
	Ref                 // a reference to another record
	Literal             // a typed value: XML eval, or a YAML value that is no string
)

// Value is what a field holds. A literal that is a single string is Text: the
// formats could not keep the two apart, and nothing depends on it.
type Value struct {
	Form    Form
	Text    string // of Text and Ref
	Literal any    // nil, bool, int64, float64, string, []any, map[string]any
}

func literalValue(v any) Value {
	if s, ok := v.(string); ok {
		return Value{Form: Text, Text: s}
	}
	return Value{Form: Literal, Literal: v}
}
