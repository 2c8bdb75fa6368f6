package resolver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// away tells whether to serve e as it is rather than to ask the database: it is
// known to be away, or it has just come back and the statement that renews all
// tenants at once comes within moments, so that what has only aged needn't be
// read one by one by a whole fleet.
func (r *Resolver) away(e *entry) bool {
	if r.retryAt.Load() != 0 {
		return true
	}
	back := instant(r.backAt.Load())
	return back != 0 && r.clock.now().since(back) < renewEvery+renewJitter+renewWait &&
		e != nil && e.unsuspected(e.validation())
}

// renewWait is how long the renewing statement itself may take.
const renewWait = 500 * time.Millisecond

// retryDelay is the time to the next try of a database that is away, jittered so
// that a fleet does not come back as a herd.
func retryDelay() time.Duration { return 200*time.Millisecond + rand.N(500*time.Millisecond) }

// failed notes an outage of the database. Only what says that the database is
// away counts: a record of one tenant that can't be read must not hold up the
// others.
func (r *Resolver) failed(err error) {
	switch fault.CodeOf(err) {
	case fault.Unavailable, fault.DeadlineExceeded:
		now := r.clock.now()
		r.Stats.DatabaseOutages.Add(1)
		r.awaySince.CompareAndSwap(0, int64(now))
		r.retryAt.Store(int64(now.add(retryDelay())))
	}
}

// claim tells whether the caller is the one who may now ask a database that is
// away; the next one may after the usual delay.
func (r *Resolver) claim() bool {
	at, now := r.retryAt.Load(), r.clock.now()
	return at != 0 && now >= instant(at) && r.retryAt.CompareAndSwap(at, int64(now.add(retryDelay())))
}

// errAway is the answer to those for whom nothing is held.
var errAway = fault.New(fault.Unavailable, "the database is away").WithRetryAfter(time.Second)

// briefly is how long an outage may have lasted for callers to wait for its end;
// later they wait for a try that is under way only. Nobody begins a wait after
// enough: a caller must learn of the outage before its own deadline (2 s), or all
// it learns is that.
const (
	briefly  = 2 * time.Second
	enough   = 800 * time.Millisecond
	oneTry   = 50 * time.Millisecond
	wakeOver = 200 * time.Millisecond // spreads those who wait for the same moment
)

// mayAsk returns nil when the database may be asked: it is not away, or this is
// the one try that is due. A brief outage is waited through.
func (r *Resolver) mayAsk(ctx context.Context) error {
	begun := r.clock.now()
	for range 4 {
		at := r.retryAt.Load()
		if at == 0 || r.claim() {
			return nil
		}
		now := r.clock.now()
		if now.since(instant(r.awaySince.Load())) > briefly || now.since(begun) > enough {
			break
		}
		sleep(ctx, instant(at).since(now)+rand.N(wakeOver))
		if ctx.Err() != nil {
			return errAway
		}
	}
	sleep(ctx, oneTry)
	if r.retryAt.Load() == 0 {
		return nil
	}
	return errAway
}

// databaseBack notes that the database answered.
func (r *Resolver) databaseBack() {
	if r.retryAt.Load() != 0 && r.retryAt.Swap(0) != 0 {
		r.awaySince.Store(0)
		r.backAt.Store(int64(r.clock.now()))
		signal(r.kick)
	}
}
