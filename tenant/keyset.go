package tenant

import (
	"slices"
	"sync/atomic"
)

// keySet is one issuer's keys at one moment, immutable.
type keySet struct {
	keys  []*key
	byKid map[string][]*key
	// nameless sources (PEM, HMAC) have no kids, so a token's kid says nothing.
	nameless bool
}

// find returns the keys that may have signed a token, and whether its kid is
// one that the set doesn't know. A kid is looked up in its own issuer's set
// only, so that a kid of one issuer never verifies for another.
func (s *keySet) find(kid, alg string) (candidates []*key, unknown bool) {
	from := s.keys
	if kid != "" && !s.nameless {
		if from = s.byKid[kid]; len(from) == 0 {
			return nil, true
		}
	}
	for _, k := range from {
		if k.fits(alg) {
			candidates = append(candidates, k)
		}
	}
	return candidates, false
}

// keyHolder publishes an issuer's current set to readers without locks. Only
// one goroutine at a time replaces it (the issuer's refresher).
type keyHolder struct{ current atomic.Pointer[keySet] }

func (h *keyHolder) load() *keySet { return h.current.Load() }

// replace installs keys. Those that were there before keep their identity;
// those that left are marked, which forgets every token they verified.
func (h *keyHolder) replace(keys []*key, nameless bool) (changed bool) {
	old := h.current.Load()
	next := &keySet{byKid: map[string][]*key{}, nameless: nameless}
	kept := map[*key]bool{}
	for _, k := range keys {
		if old != nil {
			for _, o := range old.keys {
				if !kept[o] && o.same(k) {
					k = o
					break
				}
			}
		}
		changed = changed || old == nil || !slices.Contains(old.keys, k)
		kept[k] = true
		next.keys = append(next.keys, k)
		next.byKid[k.kid] = append(next.byKid[k.kid], k)
	}
	// The new set is visible before the old keys are marked: a caller in
	// between verifies with the new set, never with none.
	h.current.Store(next)
	if old != nil {
		for _, o := range old.keys {
			if !kept[o] {
				o.gone.Store(true)
				changed = true
			}
		}
	}
	return changed
}
