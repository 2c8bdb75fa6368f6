package resolver

import (
	"context"
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// flight is one read of one question, shared by everyone who may join it.
type flight struct {
	floor   int64 // of the tenant when the flight began
	minimum int64
	done    chan struct{}

	// The outcome, written before done closes.
	entry  *entry
	mark   mark
	source Source
	err    error
}

// miss is the slow path. e is what memory holds, nil when nothing.
func (r *Resolver) miss(ctx context.Context, k key, e *entry, minimum int64) (Answer, error) {
	if r.retryAt.Load() != 0 {
		// The database is known to be away: whoever can be served is served at
		// once, and one flight at a time finds out whether it is back.
		if a, err, ok := r.stale(k, e, minimum); ok {
			if r.clock.now() >= instant(r.retryAt.Load()) {
				r.join(k, minimum)
			}
			return a, err
		}
	}
	f := r.join(k, minimum)
	select {
	case <-f.done:
	case <-ctx.Done():
		return Answer{}, fault.New(fault.DeadlineExceeded, "the answer was not found in time").WithCause(ctx.Err())
	}
	if f.err != nil {
		if fault.Outage(f.err) {
			if a, err, ok := r.stale(k, e, minimum); ok {
				return a, err
			}
		}
		return Answer{}, f.err
	}
	now := r.clock.now()
	f.entry.state.touch(now)
	return r.serve(f.entry, f.mark, now, f.source)
}

// join returns a flight that this caller may join, or a new one. A flight that
// began below the caller's floor or minimum may carry an answer older than the
// caller is entitled to.
func (r *Resolver) join(k key, minimum int64) *flight {
	st := r.states.hold(k.tenant)
	floor := st.floor.Load()
	r.flightMu.Lock()
	if f := r.flights[k]; f != nil && f.floor >= floor && f.minimum >= minimum {
		r.flightMu.Unlock()
		st.flights.Add(-1)
		return f
	}
	f := &flight{floor: floor, minimum: minimum, done: make(chan struct{})}
	r.flights[k] = f
	r.flightMu.Unlock()
	go r.fly(k, st, f)
	return f
}

// fly runs a flight to its end, detached from whoever asked.
func (r *Resolver) fly(k key, st *state, f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), r.o.FlightTimeout)
	defer cancel()
	defer st.flights.Add(-1)
	f.entry, f.mark, f.source, f.err = r.load(ctx, k, st, f)
	r.flightMu.Lock()
	if r.flights[k] == f {
		delete(r.flights, k)
	}
	r.flightMu.Unlock()
	close(f.done)
}

// load finds the answer: the shared cache first, then the database.
func (r *Resolver) load(ctx context.Context, k key, st *state, f *flight) (*entry, mark, Source, error) {
	if rec, at, ok := r.fromShared(ctx, k, st, f.minimum); ok {
		e, m, err := r.settle(ctx, k, st, rec, at)
		if err != nil {
			return nil, mark{}, "", err
		}
		if r.admissible(st, m) {
			return e, m, FromRedis, nil
		}
	}
	// A reading can be overtaken by a message that arrives while it is under
	// way; the next one begins after it. Three are enough unless the tenant
	// changes faster than it can be read.
	for range 8 {
		floor := st.floor.Load()
		start := r.clock.now()
		rec, err := r.fromDatabase(ctx, k)
		if err != nil {
			return nil, mark{}, "", err
		}
		if rec.Revision < floor {
			st = r.wentBack(ctx, st, floor, rec.Revision)
		}
		if rec.Revision < f.minimum {
			return nil, mark{}, "", fault.New(fault.Conflict, "the requested minimum revision is above the tenant's revision")
		}
		e, m, err := r.settle(ctx, k, st, rec, start)
		if err != nil {
			return nil, mark{}, "", err
		}
		if !r.admissible(st, m) {
			continue
		}
		r.fill(ctx, k, rec, start)
		return e, m, FromDatabase, nil
	}
	return nil, mark{}, "", fault.New(fault.Unavailable, "the tenant changes faster than it can be read").WithRetryAfter(time.Second)
}

// admissible tells whether an answer validated by m may still be returned as
// fresh: nothing was heard meanwhile that speaks against it.
func (r *Resolver) admissible(st *state, m mark) bool {
	return !st.dead.Load() && m.revision >= st.floor.Load() && int64(m.at) >= st.suspectBefore.Load()
}

// fromShared reads the shared cache. Anything but a whole, present entry that
// no one has overtaken is a miss.
func (r *Resolver) fromShared(ctx context.Context, k key, st *state, minimum int64) (record, instant, bool) {
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
	st.raise(got.Revision, now, r.connected(now))
	if got.Entry == nil {
		return record{}, 0, false
	}
	rec, err := decodeRecord(got.Entry)
	if err != nil || rec.Revision != got.Revision || rec.Revision < st.floor.Load() || rec.Revision < minimum {
		return record{}, 0, false
	}
	// The entry is as old as its database time says, and up to a second of
	// clock skew older.
	age := max(time.Since(rec.At), 0) + time.Second
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
func (r *Resolver) fromDatabase(ctx context.Context, k key) (record, error) {
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
		if fault.Outage(err) {
			r.backOff()
		}
		return record{}, err
	}
	r.databaseBack()
	r.Stats.ClockSkewSeconds.Store(int64(time.Since(s.At).Abs() / time.Second))
	return recordOf(s), nil
}

// wentBack handles a database that says less than it said before (a failover
// that lost commits): a reading begun after the revision was learned wins.
func (r *Resolver) wentBack(ctx context.Context, st *state, disproved, actual int64) *state {
	r.Stats.WentBack.Add(1)
	r.o.Log.Warn("the database went back in time", "tenant", st.id.String(), "disproved", disproved, "revision", actual)
	fresh := r.states.replace(st, actual, r.clock.now())
	if r.o.Shared != nil {
		if err := r.o.Shared.Lower(ctx, st.id, disproved, actual); err != nil {
			r.Stats.RedisErrors.Add(1)
		}
	}
	return fresh
}

// settle turns a record into an entry in memory: the held one, renewed, when the
// facts are the same, else a new one with its secrets and backend.
func (r *Resolver) settle(ctx context.Context, k key, st *state, rec record, at instant) (*entry, mark, error) {
	m := mark{revision: rec.Revision, at: at}
	digest, err := rec.Facts.digest()
	if err != nil {
		return nil, m, err
	}
	if held, ok := r.memory.GetIfPresent(k); ok && held.state == st && held.digest == digest && !held.ended() {
		held.revalidate(m)
		r.Stats.Unchanged.Add(1)
		return held, m, nil
	}
	e := &entry{state: st, digest: digest}
	e.mark.Store(&m)
	if e.err = rec.Facts.verdict(!k.id.IsZero()); e.err == nil {
		if err := r.build(ctx, k, rec.Facts, e); err != nil {
			// The record differs from the held one, so the held one is known to be
			// wrong even though its successor can't be built now.
			st.note(connector.Message{
				Revision: rec.Revision, Organization: k.org, Category: k.category, Connector: k.id,
			})
			return nil, m, err
		}
	}
	r.keep(k, e, m)
	return e, m, nil
}

// revalidate moves the entry's mark forward, never back.
func (e *entry) revalidate(m mark) {
	for {
		old := e.mark.Load()
		if old.at >= m.at && old.revision >= m.revision {
			return
		}
		if old.revision > m.revision {
			return
		}
		if e.mark.CompareAndSwap(old, &m) {
			return
		}
	}
}

// keep stores an entry unless what is heard or held by now is newer.
func (r *Resolver) keep(k key, e *entry, m mark) {
	r.memory.Compute(k, func(old *entry, found bool) (*entry, otterOp) {
		if !r.admissible(e.state, m) {
			return old, otterCancel
		}
		if found && !old.state.dead.Load() && old.mark.Load().revision > m.revision {
			return old, otterCancel
		}
		return e, otterWrite
	})
}

// build reads the secrets where their pin isn't held, and asks the provider.
func (r *Resolver) build(ctx context.Context, k key, f facts, e *entry) error {
	c := f.Connector
	p, ok := r.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return fault.Newf(fault.Unavailable, "the kind %q is not part of this build", string(c.Kind))
	}
	secrets, err := r.secretsOf(ctx, connector.SecretRef{Tenant: k.tenant, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		return err
	}
	cfg, err := p.Schema().Decode(providers.Input{Params: c.Params, Secrets: secrets}, providers.DecodeOptions{Version: c.Schema})
	if err != nil {
		r.o.Log.Error("a stored connector does not fit its kind", "tenant", k.tenant.String(),
			"connector", c.ID.String(), "kind", string(c.Kind), "error", err)
		return fault.New(fault.Unavailable, "the connector's stored config does not fit its kind; save it again").WithCause(err)
	}
	b, err := p.Backend(ctx, cfg)
	if err != nil {
		return err
	}
	e.expires = b.ExpiresAt
	e.body, e.etag, err = encodeBody(f, b)
	return err
}

// secretsOf returns the bundle under a pin, read once however many ask.
func (r *Resolver) secretsOf(ctx context.Context, ref connector.SecretRef) (secret.Map, error) {
	if ref.Pin.IsZero() {
		return nil, nil
	}
	if m, ok := r.pins.GetIfPresent(ref); ok {
		return m, nil
	}
	name := ref.Tenant.String() + "/" + ref.Connector.String() + "/" + ref.Pin.String()
	ch := r.secrets.DoChan(name, func() (any, error) {
		if m, ok := r.pins.GetIfPresent(ref); ok {
			return m, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.FlightTimeout)
		defer cancel()
		r.Stats.VaultReads.Add(1)
		b, err := r.o.Secrets.Read(ctx, ref)
		switch {
		case err == nil:
			r.pins.Set(ref, b.Values)
			return b.Values, nil
		case fault.CodeOf(err) == fault.NotFound:
			// A clear answer: deleted or destroyed. It is the operator's deed, and
			// nothing held may stand in for it.
			return nil, errSecretsGone.WithCause(err)
		default:
			r.Stats.VaultOutages.Add(1)
			return nil, err
		}
	})
	select {
	case res := <-ch:
		if res.Err != nil {
			return nil, res.Err
		}
		m, _ := res.Val.(secret.Map)
		return m, nil
	case <-ctx.Done():
		return nil, fault.New(fault.DeadlineExceeded, "the secrets were not read in time").WithCause(ctx.Err())
	}
}

var errSecretsGone = fault.New(fault.NeedsReauthorization, "the connector's secrets were deleted; set them again")

// fill offers the record to the shared cache, for what is left of its life.
func (r *Resolver) fill(ctx context.Context, k key, rec record, start instant) {
	// An unknown tenant or id is not shared: anybody could fill Redis with them.
	if r.o.Shared == nil || rec.Facts.Tenant == connector.StatusMissing || (!k.id.IsZero() && rec.Facts.Connector == nil) {
		return
	}
	live := r.o.TTL
	if rec.Facts.verdict(!k.id.IsZero()) != nil {
		live = r.o.NegativeTTL
	}
	live -= r.clock.now().since(start)
	b, err := json.Marshal(rec)
	if err != nil || live <= 0 {
		return
	}
	if err := r.o.Shared.Fill(ctx, k.shared(), rec.Revision, b, live); err != nil {
		r.Stats.RedisErrors.Add(1)
	}
}
