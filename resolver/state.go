package resolver

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// instant is a monotonic moment: nanoseconds since a day before the Resolver was
// made. Zero means "never", and what others validated before this process
// began, an entry of the shared cache, still has a moment of its own.
type instant int64

// clock counts instants. Wall time is used against other machines' clocks only.
type clock struct{ base time.Time }

func newClock() clock                           { return clock{time.Now().Add(-24 * time.Hour)} }
func (c clock) now() instant                    { return instant(time.Since(c.base)) }
func (i instant) before(j instant) bool         { return i < j }
func (i instant) add(d time.Duration) instant   { return i + instant(d) }
func (i instant) since(j instant) time.Duration { return time.Duration(i - j) }

// mark is a validation: at this moment the database said this revision.
type mark struct {
	revision int64
	at       instant
}

// after tells whether m is the later validation.
func (m mark) after(o mark) bool {
	return m.revision > o.revision || m.revision == o.revision && m.at > o.at
}

// period says that what was validated since a moment, at revision or above, was
// true until another.
type period struct {
	revision     int64
	since, until instant
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
	// checked is the acknowledgement of the latest subscription for which the
	// tenant was rechecked: proven, or made suspect.
	checked atomic.Int64
	// trueUntil is until when what is suspect now was known to be true.
	trueUntil atomic.Pointer[period]
	// used is when a caller last asked for this tenant; renewal follows it.
	used atomic.Int64
	// flights counts flights under way, entries what memory holds of the tenant;
	// raised is when the floor last rose. While any of them needs the state it
	// is not forgotten: a floor would be lost, or an answer that an outage may
	// still ask for.
	flights atomic.Int64
	entries atomic.Int64
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

// raise lifts the floor to at least revision. proven is the last moment at which
// the feed was whole.
func (s *state) raise(revision int64, now, proven instant) {
	for {
		old := s.floor.Load()
		if revision <= old {
			return
		}
		s.wasTrue(old, proven)
		if s.floor.CompareAndSwap(old, revision) {
			s.raised.Store(int64(now))
			return
		}
	}
}

// distrust makes everything suspect that was validated before the moment.
func (s *state) distrust(before, proven instant) {
	s.wasTrue(s.floor.Load(), proven)
	advance(&s.suspectBefore, int64(before))
}

// wasTrue remembers, before it becomes suspect, until when what is held was
// known to be true. Only for what no earlier break had made suspect: what comes
// after a break says nothing of what was missed in it.
func (s *state) wasTrue(floor int64, proven instant) {
	for {
		old := s.trueUntil.Load()
		if floor == 0 || proven == 0 || old != nil && old.until >= proven {
			return
		}
		if s.trueUntil.CompareAndSwap(old, &period{floor, instant(s.suspectBefore.Load()), proven}) {
			return
		}
	}
}

// advance moves a to v, never back.
func advance(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// note remembers what a message named. A replay names it again: the same is
// remembered once, or ten minutes of replayed messages would push out the rest.
func (s *state) note(m connector.Message) {
	c := change{
		revision: m.Revision, all: m.All, status: m.Status, org: m.Organization,
		category: m.Category, connector: m.Connector,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.changes, c) {
		return
	}
	if len(s.changes) == keptChanges {
		s.lost = max(s.lost, s.changes[0].revision)
		s.changes = append(s.changes[:0], s.changes[1:]...)
	}
	s.changes = append(s.changes, c)
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
			if c.all || c.org.IsZero() || c.org == k.org {
				return true
			}
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

func (s *states) shard(id tenant.ID) (mu *sync.RWMutex, m map[tenant.ID]*state) {
	sh := &s.shards[shardOf(id, uint32(len(s.shards)))]
	return &sh.mu, sh.m
}

// hear applies f to the tenant's state, made when there is none; f runs again
// when the state was dropped meanwhile, so that nothing heard is lost with it.
// fresh: the state is new, nothing in memory or in flight refers to it.
func (s *states) hear(id tenant.ID, f func(st *state, fresh bool)) {
	mu, m := s.shard(id)
	for {
		mu.RLock()
		st := m[id]
		mu.RUnlock()
		fresh := st == nil
		if fresh {
			mu.Lock()
			if st = m[id]; st == nil {
				st = &state{id: id}
				m[id] = st
			} else {
				fresh = false
			}
			mu.Unlock()
		}
		f(st, fresh)
		if !st.dead.Load() {
			return
		}
	}
}

// hold returns the tenant's state for a flight: it is not forgotten before
// flights is decremented.
func (s *states) hold(id tenant.ID) *state {
	mu, m := s.shard(id)
	mu.Lock()
	defer mu.Unlock()
	st := m[id]
	if st == nil {
		st = &state{id: id}
		m[id] = st
	}
	st.flights.Add(1)
	return st
}

// living returns the held state, or in exchange the one that replaced it.
func (s *states) living(held *state) *state {
	if !held.dead.Load() {
		return held
	}
	defer held.flights.Add(-1)
	return s.hold(held.id)
}

// replace drops a state whose floor the database has disproved, with every
// entry that refers to it, and starts again at actual. What was learned after
// the reading began, a floor above the disproved one, stays. It returns false
// when the state had been replaced before.
func (s *states) replace(old *state, disproved, actual int64, now instant) bool {
	mu, m := s.shard(old.id)
	mu.Lock()
	defer mu.Unlock()
	if m[old.id] != old {
		return false
	}
	st := &state{id: old.id}
	// Dead before its floor is read: who raises it later sees that it is dead and
	// raises the new one, see hear.
	old.dead.Store(true)
	if floor := old.floor.Load(); floor > disproved {
		actual = floor
	}
	st.floor.Store(actual)
	st.raised.Store(int64(now))
	st.used.Store(old.used.Load())
	st.suspectBefore.Store(old.suspectBefore.Load())
	st.checked.Store(old.checked.Load())
	m[old.id] = st
	return true
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

// forget drops states that nothing in memory and no flight refers to and whose
// floor, if they have one, rose before the given moment. So there are never more
// of them than entries, flights and tenants that changed lately: unknown tenants
// can't fill memory.
func (s *states) forget(before instant) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for id, st := range sh.m {
			if st.entries.Load() > 0 || st.flights.Load() > 0 {
				continue
			}
			if st.floor.Load() != 0 && !instant(st.raised.Load()).before(before) {
				continue
			}
			// Whoever raises it from now on sees that it is dead; who did it a
			// moment ago is seen here.
			st.dead.Store(true)
			if st.floor.Load() != 0 && !instant(st.raised.Load()).before(before) {
				st.dead.Store(false)
				continue
			}
			delete(sh.m, id)
		}
		sh.mu.Unlock()
	}
}
