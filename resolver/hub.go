package resolver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The times of DESIGN 6, "Connected".
const (
	// Half a heartbeat's interval: a heartbeat counts from the latest answered
	// PING before it, and must hold until after the next one.
	pingEvery     = 125 * time.Millisecond
	proofLasts    = 500 * time.Millisecond
	silenceBreaks = time.Second
	checkTimeout  = 2 * time.Second
	revisionBatch = 1000
)

var errGap = errors.New("a message is missing")
var errSilent = errors.New("no heartbeat or no answer to a ping for a second")

// Listen keeps a subscription to feed until ctx ends and applies what it says.
// It returns ctx's error. Without it the Resolver stays fresh by TTL alone.
func (r *Resolver) Listen(ctx context.Context, feed Feed) error {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := r.listenOnce(ctx, feed)
		r.disconnected()
		if ctx.Err() != nil {
			break
		}
		r.Stats.Breaks.Add(1)
		r.o.Log.Warn("the change feed broke", "error", err)
		if time.Since(began) > 5*time.Second {
			wait = 50 * time.Millisecond
		}
		sleep(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, time.Second)
	}
	return ctx.Err()
}

// disconnected ends the proof of life at once: the present moment is no longer
// covered, the past up to the last proof is.
func (r *Resolver) disconnected() {
	until := r.connectedUntil.Swap(0)
	if until != 0 {
		r.lostAt.Store(min(until, int64(r.clock.now())))
	}
}

// listenOnce runs one connection: subscribe, check what may have been missed,
// then listen while the connection proves to be alive.
func (r *Resolver) listenOnce(ctx context.Context, feed Feed) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sub, err := feed.Subscribe(ctx)
	if err != nil {
		return err
	}
	acknowledged := r.clock.now()
	r.acknowledged.Store(int64(acknowledged)) // before the recheck lists who is in flight
	defer func() { _ = sub.Close() }()        // the connection is given up whatever it says

	events := make(chan Event, 256)
	go func() {
		for {
			ev, err := sub.Receive(ctx)
			if err != nil {
				cancel(err)
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	checked := make(chan struct{})
	go func() {
		r.recheck(ctx, acknowledged)
		close(checked)
	}()

	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	pings := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-pings:
				if err := sub.Ping(ctx); err != nil {
					cancel(err)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	signal(pings)

	numbers := make(map[string]int64)
	var beat, pong instant
	pingSent, awaiting, whole := acknowledged, true, false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-checked:
			whole, checked = true, nil
		case <-ticker.C:
			now := r.clock.now()
			if now.since(max(beat, acknowledged)) > silenceBreaks || now.since(max(pong, acknowledged)) > silenceBreaks {
				return errSilent
			}
			if !awaiting { // one at a time, so that an answer belongs to its question
				pingSent, awaiting = now, true
				signal(pings)
			}
		case ev := <-events:
			now := r.clock.now()
			if ev.Kind == EventPong {
				// The answer proves the moment of its question, not of its arrival.
				pong, awaiting = pingSent, false
			} else {
				if last, seen := numbers[ev.Publisher]; seen && ev.Number != last+1 {
					return errGap
				}
				numbers[ev.Publisher] = ev.Number
				if ev.Kind == EventMessage {
					r.Stats.Messages.Add(1)
					r.heard(ev.Message, now)
				} else {
					// It was made after the answer to the latest PING, so after that was
					// sent; it may have waited in a buffer ever since.
					beat = pong
				}
			}
		}
		if whole && beat != 0 && pong != 0 {
			until := min(beat, pong).add(proofLasts)
			if int64(until) > r.connectedUntil.Load() {
				r.connectedUntil.Store(int64(until))
				r.lostAt.Store(int64(min(beat, pong)))
			}
		}
	}
}

// heard applies a message: the tenant's floor rises, what it names is known to
// have changed.
func (r *Resolver) heard(m connector.Message, now instant) {
	proven := r.proven(now)
	r.states.hear(m.Tenant, func(st *state, fresh bool) {
		if !fresh { // of a tenant that nobody uses the floor is enough
			st.note(m) // before the floor: whoever sees the floor must find the reason
		}
		st.raise(m.Revision, now, proven)
	})
}

// recheck finds out what a break may have hidden, for every tenant in memory
// and in flight. It ends only when each is either proven or suspect.
func (r *Resolver) recheck(ctx context.Context, acknowledged instant) {
	all, proven := r.states.all(), r.proven(acknowledged)
	suspect := func(sts ...*state) {
		for _, st := range sts {
			st.distrust(acknowledged, proven)
			advance(&st.checked, int64(acknowledged))
		}
	}
	if r.o.Shared == nil {
		suspect(all...)
		return
	}
	for len(all) > 0 {
		n := min(len(all), revisionBatch)
		batch := all[:n]
		all = all[n:]
		ids := make([]tenant.ID, n)
		for i, st := range batch {
			ids[i] = st.id
		}
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		revisions, err := r.o.Shared.Revisions(limited, ids)
		cancel()
		if ctx.Err() != nil {
			return // the next subscription checks again
		}
		if err != nil {
			r.Stats.RedisErrors.Add(1)
			suspect(batch...)
			continue
		}
		for _, st := range batch {
			revision, ok := revisions[st.id]
			if !ok || revision < st.floor.Load() {
				suspect(st) // Redis lost the key or went back: it proves nothing
				continue
			}
			st.raise(revision, acknowledged, proven)
			advance(&st.checked, int64(acknowledged))
		}
	}
}

// The statement that renews all tenants comes at most once a second.
const (
	renewEvery  = time.Second
	renewJitter = 400 * time.Millisecond
)

// Keep renews freshness and forgets what nobody can use any more, until ctx
// ends: one jittered statement a second at most, for all tenants that are due.
func (r *Resolver) Keep(ctx context.Context) error {
	swept := r.clock.now()
	for ctx.Err() == nil {
		sleep(ctx, renewEvery)
		jitter := time.NewTimer(rand.N(renewJitter))
		select {
		case <-jitter.C:
		case <-r.kick: // the database is back, at a moment of its own
		case <-ctx.Done():
		}
		jitter.Stop()
		if ctx.Err() != nil {
			break
		}
		r.renewDue(ctx)
		r.forgetSessions()
		now := r.clock.now()
		if now.since(swept) > time.Minute {
			swept = now
			r.sweep(now)
		}
		// A floor outlives the flights begun before it rose, and ttl.
		r.states.forget(now.add(-2*r.o.TTL - r.o.FlightTimeout))
	}
	return ctx.Err()
}

// sweep drops the entries that may never be served again, not even stale.
func (r *Resolver) sweep(now instant) {
	for k, e := range r.memory.All() {
		if m := e.validation(); !e.state.dead.Load() && now.since(r.lastTrue(e, m, now)) <= max(e.maxStale, r.o.TTL) {
			continue
		}
		r.memory.Compute(k, func(held *entry, found bool) (*entry, otterOp) {
			if found && held == e {
				return nil, otterInvalidate
			}
			return held, otterCancel
		})
	}
}

// renewDue reads the revisions of the tenants whose answers are in use and past
// half their life.
func (r *Resolver) renewDue(ctx context.Context) {
	back := r.backAt.Load()
	if r.retryAt.Load() != 0 && !r.claim() {
		return
	}
	start := r.clock.now()
	due := r.o.TTL/2 + rand.N(r.o.TTL/5+1)
	var sts []*state
	var ids []tenant.ID
	floors := make(map[tenant.ID]int64)
	for _, st := range r.states.all() {
		last := instant(0)
		if v := st.validated.Load(); v != nil {
			last = v.at
		}
		if st.floor.Load() == 0 {
			continue // unknown so far: there is no revision to compare, only names that callers made up
		}
		if used := instant(st.used.Load()); used == 0 || used < last || start.since(used) > r.o.TTL || start.since(last) < due {
			continue
		}
		sts, ids = append(sts, st), append(ids, st.id)
		floors[st.id] = st.floor.Load()
	}
	if len(ids) == 0 && r.retryAt.Load() == 0 {
		r.backAt.CompareAndSwap(back, 0)
		return
	} // without tenants it still finds out whether the database is back
	r.Stats.RevisionReads.Add(1)
	ctx, cancel := context.WithTimeout(ctx, r.o.FlightTimeout)
	defer cancel()
	got, err := r.o.Database.Revisions(ctx, ids)
	if err != nil {
		r.failed(err)
		return
	}
	for _, st := range sts {
		revision := got.Revision[st.id]
		if revision < floors[st.id] { // a row that is gone counts as 0
			r.wentBack(ctx, st, floors[st.id], revision)
			continue
		}
		now := r.clock.now()
		st.raise(revision, now, r.proven(now))
		st.renew(revision, start)
	}
	// Only now, when what is in use is fresh again, do callers go to the database.
	r.databaseBack()
	r.backAt.Store(0)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
