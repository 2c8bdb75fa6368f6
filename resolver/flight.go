package resolver

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// A database that has not answered for this long is unreachable for a caller
// that can be served what is held.
const patience = 500 * time.Millisecond

// flight is one read of one question, shared by everyone who may join it.
type flight struct {
	minimum int64
	began   instant
	probe   bool   // it may ask a database that is away
	state   *state // held; used by the flight's goroutine only
	// bound: the answer will not be below this revision. It begins as the
	// tenant's floor and rises with what the flight itself learns, so that this
	// does not turn away the next callers.
	bound atomic.Int64
	done  chan struct{}

	// The outcome, written before done closes.
	entry  *entry
	mark   mark
	source Source
	err    error
}

// miss is the slow path. e is what memory holds, nil when nothing.
func (r *Resolver) miss(ctx context.Context, k key, e *entry, minimum int64) (Answer, error) {
	if r.away(e) {
		if a, ok, err := r.stale(k, e, minimum); ok {
			if r.claim() {
				r.join(k, minimum, true)
			}
			return a, err
		}
	}
	f := r.join(k, minimum, false)
	var impatient <-chan time.Time
	if r.servable(k, e, minimum) {
		t := time.NewTimer(patience)
		defer t.Stop()
		impatient = t.C
	}
	for {
		select {
		case <-f.done:
			return r.landed(ctx, k, e, f, minimum)
		case <-impatient:
			impatient = nil
			if a, ok, err := r.stale(k, e, minimum); ok {
				return a, err
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				if a, ok, err := r.stale(k, e, minimum); ok {
					return a, err
				}
			}
			return Answer{}, fault.New(fault.DeadlineExceeded, "the answer was not found in time").WithCause(ctx.Err())
		}
	}
}

// landed is what an ended flight means for one of its callers.
func (r *Resolver) landed(ctx context.Context, k key, e *entry, f *flight, minimum int64) (Answer, error) {
	if f.err != nil {
		if fault.Outage(f.err) {
			if n := r.overdue(ctx, k, e, minimum); n != nil {
				e = n
			}
			if a, ok, err := r.stale(k, e, minimum); ok {
				return a, err
			}
		}
		return Answer{}, f.err
	}
	// Each caller's own minimum: one that asks for too much fails alone. An
	// unknown tenant has no revision to compare with.
	missing := f.mark.revision == 0 && fault.CodeOf(f.entry.err) == fault.NotFound
	if f.mark.revision < minimum && !missing {
		return Answer{}, fault.New(fault.Conflict, "the requested minimum revision is above the tenant's revision")
	}
	now := r.clock.now()
	f.entry.state.touch(now)
	return r.serve(f.entry, f.mark, now, f.source)
}

// join returns a flight that this caller may join, or a new one. A flight that
// began below the caller's floor or minimum may carry an answer older than the
// caller is entitled to; one that is half way to its timeout may be dead.
func (r *Resolver) join(k key, minimum int64, probe bool) *flight {
	st := r.states.hold(k.tenant)
	floor, now := st.floor.Load(), r.clock.now()
	r.flightMu.Lock()
	if f := r.flights[k]; f != nil && now.since(f.began) < r.o.FlightTimeout/2 {
		if bound := f.bound.Load(); bound >= floor && max(f.minimum, bound) >= minimum {
			r.flightMu.Unlock()
			st.flights.Add(-1)
			return f
		}
	}
	f := &flight{minimum: minimum, began: now, probe: probe, state: st, done: make(chan struct{})}
	f.bound.Store(floor)
	r.flights[k] = f
	r.flightMu.Unlock()
	go r.fly(k, f)
	return f
}

// fly runs a flight to its end, detached from whoever asked.
func (r *Resolver) fly(k key, f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.FlightTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			r.panicked(k)
			f.entry, f.err = nil, fault.New(fault.Internal, "the backend cannot be made")
		}
		r.flightMu.Lock()
		if r.flights[k] == f {
			delete(r.flights, k)
		}
		r.flightMu.Unlock()
		f.state.flights.Add(-1)
		close(f.done)
	}()
	f.entry, f.mark, f.source, f.err = r.load(ctx, k, f)
}

// panicked is called while a panic is recovered from: a provider that panics over
// one connector must not end the answers of all others. The panic's value may
// hold what it was working on.
func (r *Resolver) panicked(k key) {
	r.o.Log.Error("a flight panicked", "tenant", k.tenant.String(), "category", string(k.category),
		"connector", k.id.String(), "stack", string(debug.Stack()))
}

// load finds the answer: memory once more, the shared cache, then the database.
func (r *Resolver) load(ctx context.Context, k key, f *flight) (*entry, mark, Source, error) {
	begun := r.clock.now()
	// Another flight may have ended between the caller's look into memory and
	// this one's begin.
	if e, ok := r.memory.GetIfPresent(k); ok {
		if m, fresh := r.fresh(e, begun, f.minimum); fresh {
			return e, m, FromMemory, nil
		}
	}
	if rec, at, ok := r.fromShared(ctx, k, f); ok {
		e, m, err := r.settle(ctx, k, f.state, rec, at, begun)
		switch {
		case err != nil && fault.Outage(err):
			return nil, mark{}, "", err
		case err == nil && r.admissible(f.state, m, begun) && !e.upstream:
			return e, m, FromRedis, nil
		}
		// A clear "no" of Vault or an issuer to a shared record counts once the
		// database names the same pin and grant.
	}
	// A reading can be overtaken by a message that arrives while it is under
	// way; the next one begins after it. Three are enough unless the tenant
	// changes faster than it can be read.
	for range 8 {
		f.state = r.states.living(f.state)
		floor := f.state.floor.Load()
		begun = r.clock.now()
		rec, err := r.fromDatabase(ctx, k, f)
		if err != nil {
			return nil, mark{}, "", err
		}
		if rec.Revision < floor {
			r.wentBack(ctx, f.state, floor, rec.Revision)
			f.state = r.states.living(f.state)
		} else {
			advance(&f.bound, rec.Revision)
			now := r.clock.now()
			f.state.raise(rec.Revision, now, r.proven(now))
		}
		f.state.renew(rec.Revision, begun)
		e, m, err := r.settle(ctx, k, f.state, rec, begun, begun)
		if err != nil {
			return nil, mark{}, "", err
		}
		if !r.admissible(f.state, m, begun) {
			continue
		}
		r.fill(ctx, k, rec, begun)
		return e, m, FromDatabase, nil
	}
	return nil, mark{}, "", fault.New(fault.Unavailable, "the tenant changes faster than it can be read").WithRetryAfter(time.Second)
}

// admissible tells whether an answer validated by m, by a reading that began at
// begun, may still be returned as fresh: nothing was heard meanwhile that speaks
// against it, and nothing may have been missed. A reading that began before the
// present subscription counts only once the tenant was rechecked.
func (r *Resolver) admissible(st *state, m mark, begun instant) bool {
	acknowledged := r.acknowledged.Load()
	return !st.dead.Load() && m.revision >= st.floor.Load() && int64(m.at) >= st.suspectBefore.Load() &&
		(int64(begun) >= acknowledged || st.checked.Load() >= acknowledged)
}

// fromShared reads the shared cache. Anything but a whole, present entry that
// no one has overtaken is a miss.
func (r *Resolver) fromShared(ctx context.Context, k key, f *flight) (record, instant, bool) {
	st := f.state
	if r.o.Shared == nil {
		return record{}, 0, false
	}
	r.Stats.RedisReads.Add(1)
	got, err := r.o.Shared.Get(ctx, k.shared())
	if err != nil {
		r.Stats.RedisErrors.Add(1)
		return record{}, 0, false
	}
	now := r.clock.now()
	if !got.HasRevision {
		return record{}, 0, false
	}
	// A revision key above the floor is news like any other.
	advance(&f.bound, got.Revision)
	st.raise(got.Revision, now, r.proven(now))
	if got.Entry == nil {
		return record{}, 0, false
	}
	rec, err := decodeRecord(got.Entry)
	if err != nil || rec.Revision != got.Revision || rec.Revision < st.floor.Load() || rec.Revision < f.minimum {
		return record{}, 0, false
	}
	// The entry is as old as its database time says, and up to a second of
	// clock skew older. With more skew than that its age is unknown.
	age := time.Since(rec.At)
	if age < -maxSkew {
		return record{}, 0, false
	}
	age = max(age, 0) + maxSkew
	live := r.o.TTL
	if rec.Facts.verdict(!k.id.IsZero()) != nil {
		live = r.o.NegativeTTL
	}
	if age > live {
		return record{}, 0, false
	}
	r.Stats.RedisHits.Add(1)
	return rec, now.add(-age), true
}

// fromDatabase reads the question's record.
func (r *Resolver) fromDatabase(ctx context.Context, k key, f *flight) (record, error) {
	if !f.probe {
		if err := r.mayAsk(ctx); err != nil {
			return record{}, err
		}
	}
	f.probe = false
	r.Stats.DatabaseReads.Add(1)
	t := r.o.Database.Tenant(k.tenant)
	var s connector.Snapshot
	var err error
	if k.id.IsZero() {
		s, err = t.Default(ctx, k.org, k.category)
	} else {
		s, err = t.Connector(ctx, k.org, k.id)
	}
	if err != nil {
		r.failed(err)
		return record{}, err
	}
	r.databaseBack()
	r.Stats.ClockSkewSeconds.Store(int64(time.Since(s.At).Abs() / time.Second))
	return recordOf(s), nil
}

// wentBack handles a database that says less than it said before (a failover
// that lost commits): a reading begun after the revision was learned wins.
func (r *Resolver) wentBack(ctx context.Context, st *state, disproved, actual int64) {
	if !r.states.replace(st, disproved, actual, r.clock.now()) {
		return // another flight found out first
	}
	r.Stats.WentBack.Add(1)
	r.o.Log.Warn("the database went back in time", "tenant", st.id.String(), "disproved", disproved, "revision", actual)
	if r.o.Shared != nil {
		if err := r.o.Shared.Lower(ctx, st.id, disproved, actual); err != nil {
			r.Stats.RedisErrors.Add(1)
		}
	}
}

// maxSkew is how far the database's clock and a sidecar's may be apart.
const maxSkew = time.Second
