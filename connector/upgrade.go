package connector

import (
	"maps"
	"reflect"
	"slices"

	"github.com/patchbay-dev/patchbay/providers"
)

// Upgrade brings c, as it was written under an older version of its kind's schema,
// to the present one: the values, what the last import brought of each, and the
// names of its secrets, whose content never changes. c's maps are replaced, not
// modified. secrets gives the bundle under c's pin, which is modified; it is called
// only where the versions between name a secret otherwise.
//
// rewrite: the bundle is another one, so it has to be stored under a new pin
// together with c, or neither. A config whose names and version disagree would not
// be readable.
// Errors: fault.Unavailable for a record of a newer build; those of secrets.
func Upgrade(schema *providers.Schema, c *Connector, secrets func() (*Bundle, error)) (rewrite bool, err error) {
	if c.SchemaVersion == 0 || c.SchemaVersion == schema.Version {
		return false, nil
	}
	values, bases := valuesOf(c.Params), make(map[string]any, len(c.Params))
	for name, p := range c.Params {
		if p.Imported != nil {
			bases[name] = p.Imported
		}
	}
	present, err := schema.Upgrade(c.SchemaVersion, providers.Input{Params: values})
	if err != nil {
		return false, err
	}
	base, err := schema.Upgrade(c.SchemaVersion, providers.Input{Params: bases})
	if err != nil {
		return false, err
	}
	params := make(map[string]Param, len(present.Params))
	for _, from := range []map[string]any{present.Params, base.Params} {
		for name := range from {
			p, known := c.Params[name]
			p.Value, p.Imported = present.Params[name], base.Params[name]
			if !known {
				p.Writer, p.UpdatedAt = WriterAPI, c.UpdatedAt
				if p.Value != nil && SameValue(p.Value, p.Imported) {
					p.Writer = WriterImport
				}
			}
			params[name] = p
		}
	}
	infos := maps.Clone(c.Secrets)
	for v := c.SchemaVersion; v < schema.Version; v++ {
		renames := schema.Upgrades[v-1].Secrets
		if len(renames) == 0 {
			continue
		}
		b, err := secrets()
		if err != nil {
			return false, err
		}
		rewrite = b.rename(renames) || rewrite
		providers.Rename(infos, renames)
	}
	c.Params, c.Secrets, c.SchemaVersion = params, infos, schema.Version
	return rewrite, nil
}

// SameValue compares canonical values; a store may give back a whole float as an
// integer, and nil for an empty list.
func SameValue(a, b any) bool {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(float64); ok {
			return float64(x) == y
		}
	case float64:
		if y, ok := b.(int64); ok {
			return x == float64(y)
		}
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, SameValue)
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, SameValue)
	}
	return reflect.DeepEqual(a, b)
}
