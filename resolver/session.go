package resolver

import (
	"context"
	"sync"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

// pinKey is a bundle as somebody was allowed to read it.
type pinKey struct {
	ref     connector.SecretRef
	session uint64 // 0: the process's own right
}

// sessions knows the callers' rights by their number, which is what keys hold.
type sessions struct{ known sync.Map } // uint64 -> Session

// of is a session's number, 0 for none.
func (s *sessions) of(x Session) uint64 {
	if x == nil {
		return 0
	}
	id := x.ID()
	if _, ok := s.known.Load(id); !ok {
		s.known.Store(id, x)
	}
	return id
}

// get is the session of a number. One that was forgotten is not live, and stands
// for no right at all.
func (s *sessions) get(id uint64) Session {
	if id == 0 {
		return nil
	}
	if x, ok := s.known.Load(id); ok {
		return x.(Session) //nolint:forcetypeassert // of stores nothing else
	}
	return forgotten(id)
}

// forgotten stands for a right that ended before it was used.
type forgotten uint64

func (f forgotten) ID() uint64 { return uint64(f) }
func (forgotten) Live() bool   { return false }
func (forgotten) Read(context.Context, connector.SecretRef) (vault.Bundle, error) {
	return vault.Bundle{}, fault.New(fault.Unavailable, "the caller's right to secrets has ended")
}

// forgetSessions drops what was read with rights that have ended. It asks nobody:
// a caller who still has a right reads again.
func (r *Resolver) forgetSessions() {
	callers := false
	r.sessions.known.Range(func(id, x any) bool {
		callers = true
		if !x.(Session).Live() { //nolint:forcetypeassert // of stores nothing else
			r.sessions.known.Delete(id)
		}
		return true
	})
	if !callers {
		return // nobody brings rights, or nothing of theirs is left
	}
	for k, e := range r.memory.All() {
		if e.session != nil && !e.session.Live() {
			r.memory.Invalidate(k)
		}
	}
	for k := range r.pins.All() {
		if k.session != 0 && !r.sessions.get(k.session).Live() {
			r.pins.Invalidate(k)
		}
	}
}
