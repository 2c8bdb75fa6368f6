package resolver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// instant is a monotonic moment: nanoseconds since the Resolver was made, plus
// one, so that zero means "never".
type instant int64

// clock counts instants. Wall time is used against other machines' clocks only.
type clock struct{ base time.Time }

func newClock() clock                           { return clock{time.Now()} }
func (c clock) now() instant                    { return instant(time.Since(c.base)) + 1 }
func (i instant) before(j instant) bool         { return i < j }
func (i instant) add(d time.Duration) instant   { return i + instant(d) }
func (i instant) since(j instant) time.Duration { return time.Duration(i - j) }

// mark is a validation: at this moment the database said this revision.
type mark struct {
	revision int64
	at       instant
}

// state is what a sidecar has heard of one tenant.
type state struct {
	id tenant.ID
	// floor is the highest revision heard of. Answers below it are neither
	// stored nor returned as fresh.
	floor atomic.Int64
	// validated is the latest reading of the tenant's revision from the
	// database. An entry of the same revision is as fresh as this.
	validated atomic.Pointer[mark]
	// suspectBefore: only what was validated after it is fresh. Set by a
	// re-subscription that could not prove that nothing was missed.
	suspectBefore atomic.Int64
	// trueUntil: while connected, revision was the present one until at.
	trueUntil atomic.Pointer[mark]
	// used is when a caller last asked for this tenant; renewal follows it.
	used atomic.Int64
	// flights counts flights under way; raised is when the floor last rose.
	// Both keep the floor from being forgotten too early.
	flights atomic.Int64
	raised  atomic.Int64
	// dead: the state was dropped (forgotten, or the database went back). All
	// entries that refer to it are misses.
	dead atomic.Bool

	mu      sync.Mutex
	changes []change // the latest messages, oldest first
	lost    int64    // the greatest revision whose message fell out of changes
}

// change is what one message named.
type change struct {
	revision  int64
	all       bool
	status    bool
	org       tenant.OrganizationID
	category  providers.Category
	connector connector.ID
}

// keptChanges bounds a tenant's memory of messages. What falls out counts as
// "everything changed", which costs staleness during an outage, never truth.
const keptChanges = 64

// raise lifts the floor to at least revision and tells whether it rose.
func (s *state) raise(revision int64, now instant, connected bool) bool {
	for {
		old := s.floor.Load()
		if revision <= old {
			return false
		}
		if connected {
			s.trueUntil.Store(&mark{revision: old, at: now})
		}
		if s.floor.CompareAndSwap(old, revision) {
			s.raised.Store(int64(now))
			return true
		}
	}
}

// note remembers what a message named.
func (s *state) note(m connector.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changes) == keptChanges {
		s.lost = max(s.lost, s.changes[0].revision)
		s.changes = append(s.changes[:0], s.changes[1:]...)
	}
	s.changes = append(s.changes, change{
		revision: m.Revision, all: m.All, status: m.Status, org: m.Organization,
		category: m.Category, connector: m.Connector,
	})
}

// known tells whether a message after revision named k: then what is held for
// k is known to be wrong, not merely suspect.
func (s *state) known(k key, revision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > revision {
		return true
	}
	for _, c := range s.changes {
		if c.revision <= revision {
			continue
		}
		switch {
		case c.status && (c.org.IsZero() || c.org == k.org):
			return true
		case c.category == "" && c.connector.IsZero():
			return true
		case !k.id.IsZero():
			if c.connector == k.id {
				return true
			}
		case c.category == k.category && (c.all || c.org == k.org):
			return true
		}
	}
	return false
}

// renew records that the database said revision at the moment at.
func (s *state) renew(revision int64, at instant) {
	for {
		old := s.validated.Load()
		if old != nil && (old.at >= at || old.revision > revision) {
			return
		}
		if s.validated.CompareAndSwap(old, &mark{revision, at}) {
			return
		}
	}
}

// touch notes a use, at most once a second so that readers on several cores do
// not fight over the cache line.
func (s *state) touch(now instant) {
	if last := s.used.Load(); int64(now)-last > int64(time.Second) {
		s.used.Store(int64(now))
	}
}

// states holds the state of every tenant heard of.
type states struct {
	shards [32]struct {
		mu sync.RWMutex
		m  map[tenant.ID]*state
	}
}

func newStates() *states {
	var s states
	for i := range s.shards {
		s.shards[i].m = make(map[tenant.ID]*state)
	}
	return &s
}

func shardOf(id tenant.ID, n uint32) uint32 {
	h := uint32(2166136261) // FNV-1a
	for _, c := range []byte(id.String()) {
		h = (h ^ uint32(c)) * 16777619
	}
	return h % n
}

// get returns the tenant's state, made when there is none.
func (s *states) get(id tenant.ID) *state {
	sh := &s.shards[shardOf(id, uint32(len(s.shards)))]
	sh.mu.RLock()
	st := sh.m[id]
	sh.mu.RUnlock()
	if st != nil {
		return st
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if st = sh.m[id]; st == nil {
		st = &state{id: id}
		sh.m[id] = st
	}
	return st
}

// hold is get for a flight: the state can't be forgotten until release.
func (s *states) hold(id tenant.ID) *state {
	for {
		st := s.get(id)
		st.flights.Add(1)
		if !st.dead.Load() {
			return st
		}
		st.flights.Add(-1)
	}
}

// replace drops a state whose floor the database has disproved, with every
// entry that refers to it, and starts again at floor.
func (s *states) replace(old *state, floor int64, now instant) *state {
	sh := &s.shards[shardOf(old.id, uint32(len(s.shards)))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.m[old.id] != old {
		return sh.m[old.id]
	}
	st := &state{id: old.id}
	st.floor.Store(floor)
	st.raised.Store(int64(now))
	st.used.Store(old.used.Load())
	sh.m[old.id] = st
	old.dead.Store(true)
	return st
}

// all returns every state.
func (s *states) all() []*state {
	var out []*state
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		for _, st := range sh.m {
			out = append(out, st)
		}
		sh.mu.RUnlock()
	}
	return out
}

// forget drops states that nobody asked for, no flight uses and whose floor
// rose before the given moment.
func (s *states) forget(before instant) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for id, st := range sh.m {
			if instant(st.used.Load()).before(before) && instant(st.raised.Load()).before(before) && st.flights.Load() == 0 {
				// dead first: a flight that takes the state now looks again.
				st.dead.Store(true)
				delete(sh.m, id)
			}
		}
		sh.mu.Unlock()
	}
}
