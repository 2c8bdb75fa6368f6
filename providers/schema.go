package providers

import "github.com/patchbay-dev/patchbay/internal/secret"

// Schema describes a kind; provisional contract, see the package's owner.
type Schema struct {
	Kind     Kind
	Aliases  []Kind
	Category Category
	Label    string
	Version  int
}

// Input is what a caller submits, names not yet checked.
type Input struct {
	Params  map[string]any
	Secrets secret.Map
}

// DecodeOptions says how an Input is to be read.
type DecodeOptions struct {
	// Text allows text where the schema wants another type (param rows, $ENV:).
	Text bool
	// Configured names secrets that are stored already: required ones among
	// them need not be submitted.
	Configured []string
}

// Split sorts a flat map that mixes params and secrets (a data file's config)
// into an Input by the schema, aliases resolved. Unknown names stay in Params,
// so that Decode reports them. A secret that is not text stays in Params too.
func (s *Schema) Split(mixed map[string]any) (Input, error) { panic("contract") }

// Decode checks in against the schema, strictly, and returns the canonical
// config, defaults filled in: string, bool, int64, float64, []any,
// map[string]any. All problems come at once: fault.InvalidArgument with a
// violation per problem, pointers "/params/<name>" and "/secrets/<name>".
// An unknown name gets a did-you-mean. No message repeats a value.
func (s *Schema) Decode(in Input, o DecodeOptions) (Config, error) { panic("contract") }

// IsSecret tells whether the schema has a secret of this (canonical) name.
func (s *Schema) IsSecret(name string) bool { panic("contract") }

// Registry is a set of kinds.
type Registry struct{}

// Register adds a kind to the process-wide registry; it panics on a duplicate
// or an invalid schema. It is the one global of Patchbay.
func Register(p Provider) { panic("contract") }

// NewRegistry returns a registry of the given providers.
func NewRegistry(ps ...Provider) (*Registry, error) { panic("contract") }

// Lookup finds a provider by kind or alias.
func (r *Registry) Lookup(kind string) (Provider, bool) { panic("contract") }

// Kinds lists the providers by kind.
func (r *Registry) Kinds() []Provider { panic("contract") }

// HasCategory tells whether the category is declared.
func (r *Registry) HasCategory(c Category) bool { panic("contract") }

// Category finds a declared category without allocating; name may alias a
// request buffer, the result does not.
func (r *Registry) Category(name string) (Category, bool) { panic("contract") }

// Categories lists the declared categories with their labels.
func (r *Registry) Categories() []CategoryInfo { panic("contract") }

// CategoryInfo is a category with its label.
type CategoryInfo struct {
	Category Category `json:"category"`
	Label    string   `json:"label"`
}
