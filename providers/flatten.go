package providers

import (
	"maps"
	"slices"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// wrappers are keys under which other systems nest a whole config.
var wrappers = []string{"config", "credentials", "params", "secrets", "settings"}

// Flatten is the ImportConfig of kinds without a vendor's file. It lifts nested
// maps, which dotted keys of ir.connector.param become:
//
//	{"smtp": {"host": "h"}}              the kind, one of its aliases or a wrapper
//	                                     (config, credentials, params, secrets,
//	                                     settings) disappears: host
//	{"access": {"key": "k"}}             else the path is joined: access_key
//
// A map under a declared name is that param's value and stays. Names are not
// judged here: Decode reports unknown ones, with "_" for each dot. raw is not
// modified. Errors: fault.InvalidArgument when two paths lead to one name, and
// for nesting that no schema has.
func (s *Schema) Flatten(raw map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(raw))
	var violations []fault.Violation
	var walk func(prefix string, m map[string]any, depth int)
	walk = func(prefix string, m map[string]any, depth int) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			name, value := prefix+key, m[key]
			nested, isMap := value.(map[string]any)
			if isMap && !s.index().has(s.Canonical(name)) {
				switch {
				case depth == maxDepth:
					violations = append(violations, fault.Violation{
						Pointer: pointer("params", name), Code: "depth", Message: "is nested too deeply"})
				case s.isWrapper(key):
					walk(prefix, nested, depth+1)
				default:
					walk(name+"_", nested, depth+1)
				}
				continue
			}
			if _, twice := out[name]; twice {
				violations = append(violations, fault.Violation{
					Pointer: pointer("params", name), Code: "conflict", Message: "is given twice, once in a nested object"})
				continue
			}
			out[name] = value
		}
	}
	walk("", raw, 0)
	if len(violations) > 0 {
		return nil, fault.New(fault.InvalidArgument, "the config can't be flattened").WithViolations(violations...)
	}
	return out, nil
}

func (s *Schema) isWrapper(key string) bool {
	return key == string(s.Kind) || slices.Contains(s.Aliases, Kind(key)) || slices.Contains(wrappers, key)
}
