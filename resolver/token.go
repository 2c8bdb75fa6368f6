package resolver

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// tokens gives a config whose kind mints tokens its source of them, and tells
// whether it is one.
func (r *Resolver) tokens(cfg *providers.Config, p providers.Provider, k key, f facts) (bool, error) {
	a, ok := p.(providers.Authorizer)
	if !ok {
		return false, nil
	}
	app, mints, err := a.OAuth(*cfg)
	if err != nil {
		return false, fault.New(fault.Unavailable, "the connector's OAuth2 client cannot be used; test the connector").WithCause(err)
	}
	if !mints {
		return false, nil
	}
	if r.o.Tokens == nil {
		return false, fault.New(fault.Unavailable, "this sidecar has no standing right to the consents that tokens are minted from")
	}
	c := f.Connector
	cfg.Tokens = r.o.Tokens.Source(connector.GrantRef{
		Tenant: k.tenant, Connector: c.ID, Pin: c.Pin, GrantVersion: f.GrantVersion,
	}, app)
	return true, nil
}

// refused makes e the answer that Vault or an issuer gave: a clear "no", which
// can change without a revision. It is kept for its time only, never renewed by
// an equal record. Other errors are no answers.
func (e *entry) refused(err error, live time.Duration) bool {
	if fault.CodeOf(err) != fault.NeedsReauthorization {
		return false
	}
	e.err, e.expires, e.upstream = err, time.Now().Add(live), true
	return true
}

// due tells whether a fresh token should be at hand by now.
func (e *entry) due(now instant) bool {
	at := e.refresh.Load()
	return at != 0 && int64(now) >= at
}

// How often a backend whose token is due is made anew until there is a fresh
// one: an eighth of what is left of the old one's life, within these bounds.
const (
	renewLeast = 50 * time.Millisecond
	renewMost  = 5 * time.Second
)

// refreshAt is when a backend is to be made anew. A token that is due already is
// being refreshed by somebody: it is looked at again soon.
func (r *Resolver) refreshAt(b providers.Backend) int64 {
	if b.RefreshAt.IsZero() {
		return 0
	}
	now, wall := r.clock.now(), time.Now()
	if d := b.RefreshAt.Sub(wall); d > 0 {
		return int64(now.add(d))
	}
	return int64(now.add(min(max(b.ExpiresAt.Sub(wall)/8, renewLeast), renewMost)))
}

// renew makes the backend of a fresh entry anew in the background, once per due
// time however many callers come by, while the old token is served.
func (r *Resolver) renew(k key, e *entry, now instant) {
	at := e.refresh.Load()
	if at == 0 || int64(now) < at || !e.refresh.CompareAndSwap(at, int64(now.add(renewMost))) {
		return
	}
	e.state.flights.Add(1) // keeps the state, as a flight does
	go func() {
		defer e.state.flights.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), r.o.FlightTimeout)
		defer cancel()
		r.remake(ctx, k, e)
	}()
}

// remake builds an entry's backend again from the facts that it was built from,
// with the token of now, and keeps it in the old one's place. The validation
// stays the old one's: nobody has asked the database. It returns nil where there
// is no answer.
func (r *Resolver) remake(ctx context.Context, k key, e *entry) (made *entry) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked(k)
			made = nil
		}
	}()
	n := &entry{state: e.state, digest: e.digest, session: e.session, maxStale: e.maxStale}
	n.mark.Store(e.mark.Load())
	if err := r.build(ctx, k, *e.facts, n); err != nil && !n.refused(err, r.o.NegativeTTL) {
		r.Stats.TokenOutages.Add(1)
		if left := time.Until(e.expires); left > 0 {
			e.refresh.Store(int64(r.clock.now().add(min(max(left/8, renewLeast), renewMost))))
		}
		return nil
	}
	r.memory.Compute(k, func(old *entry, found bool) (*entry, otterOp) {
		if !found || old != e || e.state.dead.Load() || e.session != nil && !e.session.Live() {
			return old, otterCancel
		}
		n.mark.Store(e.mark.Load()) // it may have been validated meanwhile
		n.wrong.Store(e.wrong.Load())
		e.state.entries.Add(1)
		return n, otterWrite
	})
	return n
}

// overdue is for an entry whose token has ended while the database is away: what
// is known of the connector is as good as in any outage, and a new token may be
// had without it. It returns nil where it can't.
func (r *Resolver) overdue(ctx context.Context, k key, e *entry, minimum int64) *entry {
	if e == nil || e.facts == nil || !e.ended() || !r.holdable(k, e, minimum) {
		return nil
	}
	return r.remake(ctx, k, e)
}
