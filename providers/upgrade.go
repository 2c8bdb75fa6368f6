package providers

import (
	"fmt"
	"maps"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Upgrade takes a config from schema version From to From+1.
type Upgrade struct {
	From int
	// Params changes the params; the map is the callee's own. nil changes none.
	Params func(params map[string]any) error
	// Secrets renames secrets, old name to new. Content never changes: stored
	// secrets are pinned and not rewritten.
	Secrets map[string]string
}

// Upgrade brings an Input that was written under an older version of the schema
// to the present one; in is not modified. Version 0 stands for the present one.
// Errors: fault.Unavailable when version is newer than the schema (a sidecar
// that has not been rolled yet), fault.Internal when a step fails.
func (s *Schema) Upgrade(version int, in Input) (Input, error) {
	if version == 0 || version == s.Version {
		return in, nil
	}
	if version > s.Version {
		return Input{}, fault.New(fault.Unavailable,
			"the connector was written by a newer version of its kind than this process knows")
	}
	out := Input{Params: maps.Clone(in.Params), Secrets: in.Secrets.Clone()}
	if out.Params == nil {
		out.Params = map[string]any{}
	}
	for v := max(version, 1); v < s.Version; v++ {
		u := s.Upgrades[v-1]
		if u.Params != nil {
			if err := u.Params(out.Params); err != nil {
				return Input{}, fault.New(fault.Internal, "the connector's params could not be upgraded").
					WithCause(fmt.Errorf("upgrade %s from version %d: %w", s.Kind, v, err))
			}
		}
		Rename(out.Secrets, u.Secrets)
	}
	return out, nil
}

// Rename gives the entries of m the names that they have after an [Upgrade], all at
// once, so that two can change places. It tells whether there was any.
func Rename[V any](m map[string]V, names map[string]string) bool {
	moved := map[string]V{}
	for from, to := range names {
		if v, ok := m[from]; ok {
			moved[to] = v
			delete(m, from)
		}
	}
	maps.Copy(m, moved)
	return len(moved) > 0
}
