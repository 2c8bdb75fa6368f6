package providers

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// registered holds the custom kinds of the process: the one global of Patchbay,
// filled by init functions of packages that main blank-imports, as with
// database/sql drivers.
var registered struct {
	sync.Mutex
	kinds map[Kind]Provider
}

// Register adds a kind to the process-wide list of custom kinds. It panics on
// a nil provider, a duplicate and an invalid schema: all of them are mistakes
// in the program, found at its start.
func Register(p Provider) {
	if p == nil {
		panic("providers: Register of nil")
	}
	s := p.Schema()
	if err := s.Validate(); err != nil {
		panic(fmt.Sprintf("providers: %v", err))
	}
	registered.Lock()
	defer registered.Unlock()
	if _, taken := registered.kinds[s.Kind]; taken {
		panic(fmt.Sprintf("providers: kind %q is registered twice", s.Kind))
	}
	if registered.kinds == nil {
		registered.kinds = map[Kind]Provider{}
	}
	registered.kinds[s.Kind] = p
}

// Registered lists what Register was given, by kind.
func Registered() []Provider {
	registered.Lock()
	defer registered.Unlock()
	ps := make([]Provider, 0, len(registered.kinds))
	for _, k := range slices.Sorted(maps.Keys(registered.kinds)) {
		ps = append(ps, registered.kinds[k])
	}
	return ps
}

// CategoryInfo is a category with its label.
type CategoryInfo struct {
	Category Category `json:"category"`
	Label    string   `json:"label"`
}

var builtinCategories = []CategoryInfo{
	{Email, "Email"}, {Storage, "Storage"}, {Messaging, "Messaging"},
	{AI, "AI"}, {Webhook, "Webhooks"}, {API, "APIs"},
}

func builtinLabel(c Category) string {
	for _, b := range builtinCategories {
		if b.Category == c {
			return b.Label
		}
	}
	return ""
}

// Registry is a set of kinds with their categories. It is immutable and safe
// for concurrent use.
type Registry struct {
	kinds      []Provider          // by kind
	byName     map[string]Provider // kinds and aliases
	categories map[string]CategoryInfo
}

// NewRegistry returns a registry of the given providers. Errors name every
// invalid schema, every kind or alias that two providers claim and every
// category that two kinds label differently.
func NewRegistry(ps ...Provider) (*Registry, error) {
	r := &Registry{byName: map[string]Provider{}, categories: map[string]CategoryInfo{}}
	for _, c := range builtinCategories {
		r.categories[string(c.Category)] = c
	}
	var errs []error
	for _, p := range ps {
		s := p.Schema()
		if err := s.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, name := range append([]Kind{s.Kind}, s.Aliases...) {
			if other, taken := r.byName[string(name)]; taken {
				errs = append(errs, fmt.Errorf("kind or alias %q of %q belongs to %q already", name, s.Kind, other.Schema().Kind))
				continue
			}
			r.byName[string(name)] = p
		}
		if c, known := r.categories[string(s.Category)]; known {
			if s.CategoryLabel != "" && s.CategoryLabel != c.Label {
				errs = append(errs, fmt.Errorf("kind %q gives category %q another label", s.Kind, s.Category))
			}
		} else {
			r.categories[string(s.Category)] = CategoryInfo{s.Category, s.CategoryLabel}
		}
		r.kinds = append(r.kinds, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(r.kinds, func(a, b Provider) int { return cmp.Compare(a.Schema().Kind, b.Schema().Kind) })
	return r, nil
}

// Bind returns the registry with the kinds that are Binders bound to rt. A kind
// that isn't bound has no way to the network and says so in its tests.
func (r *Registry) Bind(rt Runtime) *Registry {
	out := &Registry{byName: make(map[string]Provider, len(r.byName)), categories: r.categories}
	bound := make(map[Kind]Provider, len(r.kinds))
	for _, p := range r.kinds {
		if b, ok := p.(Binder); ok {
			p = b.Bind(rt)
		}
		bound[p.Schema().Kind] = p
		out.kinds = append(out.kinds, p)
	}
	for name, p := range r.byName {
		out.byName[name] = bound[p.Schema().Kind]
	}
	return out
}

// Lookup finds a provider by kind or alias.
func (r *Registry) Lookup(kind string) (Provider, bool) {
	p, ok := r.byName[kind]
	return p, ok
}

// Kinds lists the providers by kind.
func (r *Registry) Kinds() []Provider { return slices.Clone(r.kinds) }

// Names lists every kind and alias, sorted, for messages that suggest one.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.byName)) }

// Suggest returns the kind or alias that a mistyped name most likely means, ""
// when none is near.
func (r *Registry) Suggest(kind string) string { return suggest(kind, r.Names()) }

// HasCategory tells whether the category is declared.
func (r *Registry) HasCategory(c Category) bool {
	_, ok := r.categories[string(c)]
	return ok
}

// Category finds a declared category without allocating; name may alias a
// request buffer, the result does not.
func (r *Registry) Category(name string) (Category, bool) {
	c, ok := r.categories[name]
	return c.Category, ok
}

// Categories lists the declared categories with their labels, by category.
func (r *Registry) Categories() []CategoryInfo {
	return slices.SortedFunc(maps.Values(r.categories), func(a, b CategoryInfo) int {
		return cmp.Compare(a.Category, b.Category)
	})
}
