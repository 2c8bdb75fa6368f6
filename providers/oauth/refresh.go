package oauth

import (
	"context"
	"math"
	"net/url"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// refresh is one flight's way to a token of a grant; doc.go has the steps.
type refresh struct {
	m *Manager
	f *flight
	// least is the version from which on a token is an answer: what the database said,
	// and more than what is held and due.
	least int64
	lease *lease // nil: without, as grants may be that the issuer doesn't replace
	row   connector.GrantRow
}

// rounds bounds how often a grant is read in one flight. Each after the first is
// one that somebody else has changed meanwhile.
const rounds = 5

func (m *Manager) refresh(f *flight) (token, *trouble) {
	r := &refresh{m: m, f: f, least: f.ref.GrantVersion}
	if f.old.Access.IsSet() {
		r.least = max(r.least, f.old.version+1)
	}
	if f.prove {
		// No token that is there is an answer, but one that was got with this secret.
		r.least = math.MaxInt64
	} else if t, ok := m.load(m.ctx, f, r.least); ok {
		return t, nil
	}
	var t token
	var ok bool
	bad := r.look(m.ctx)
	if bad != nil {
		t, ok, bad = r.without(m.ctx)
	} else if t, ok, _ = r.peek(m.ctx); ok {
		// A fleet without Redis, and a process that has just started, need no lease to
		// read what is there.
		m.publish(m.ctx, f, t)
	} else {
		t, ok, bad = r.acquire(m.ctx)
	}
	if ok || bad != nil {
		return t, bad
	}
	defer r.lease.release()
	m.step("leased")
	return r.run(m.ctx)
}

// run is the part under the lease.
func (r *refresh) run(ctx context.Context) (token, *trouble) {
	var turned *trouble // what the issuer said of version spurned
	spurned := int64(0)
	for range rounds {
		g, bad := r.read(ctx)
		if bad != nil {
			return token{}, bad
		}
		r.m.step("read")
		if t := g.token; t.fresh(r.f.ref.GrantVersion, r.m.now()) && (!r.f.prove || g.proven(r.f.ref.Connector, r.f.app)) {
			r.m.Stats.GrantHits.Add(1)
			return r.found(ctx, t), nil
		}
		if r.row.Status == connector.GrantNeedsReauthorization && g.version <= r.row.Version {
			return token{}, consentEnded()
		}
		if turned != nil && g.version == spurned {
			if r.settle(ctx, g.version, connector.GrantNeedsReauthorization) {
				return token{}, turned
			}
			// More is known already, so there is a newer version to be read.
			if bad := r.look(ctx); bad != nil {
				return token{}, bad
			}
			continue
		}
		if !g.refresh.IsSet() {
			if g.token.serves(r.f.ref.GrantVersion, r.m.now()) {
				return g.token, nil
			}
			r.settle(ctx, g.version, connector.GrantNeedsReauthorization)
			return token{}, consentEnded()
		}
		a, bad := r.ask(ctx, g)
		switch {
		case bad != nil && bad.class == refused:
			turned, spurned = bad, g.version
		case bad != nil:
			return token{}, bad
		default:
			t, stored, bad := r.store(ctx, g, a)
			if stored || bad != nil {
				return t, bad
			}
		}
	}
	return token{}, storage("the stored consent changes faster than it can be used")
}

// read reads the latest grant, which must be one of this client's and at least what
// the database knows of.
func (r *refresh) read(ctx context.Context) (grant, *trouble) {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	stored, err := r.m.o.Grants.ReadGrant(ctx, r.f.ref.Tenant, r.f.ref.Connector)
	switch {
	case err != nil && fault.CodeOf(err) == fault.NotFound:
		if stored.Version > 0 {
			r.settle(ctx, stored.Version, connector.GrantNeedsReauthorization)
		}
		return grant{}, consentEnded()
	case err != nil:
		r.m.Stats.GrantFaults.Add(1)
		return grant{}, storage("the stored consent could not be read")
	case stored.Version < max(r.row.Version, r.f.ref.GrantVersion):
		// A replica that lags, or a Vault of yesterday: its refresh token may have been
		// replaced, and an issuer that sees it again may end the whole grant.
		r.m.Stats.GrantFaults.Add(1)
		return grant{}, storage("the stored consent is older than the database knows it")
	}
	g, ok := grantOf(stored)
	if len(stored.Values) == 0 {
		// It was forgotten, long after its connector was deleted, which lives again.
		r.settle(ctx, stored.Version, connector.GrantNeedsReauthorization)
	}
	if !ok || !g.belongs(r.f.app) {
		return grant{}, consentEnded()
	}
	g.token = r.m.timed(r.f.key, g.token)
	if !g.refresh.IsSet() {
		g.token.RefreshAt = g.token.ExpiresAt // nothing can be done before
	}
	return g, nil
}

// ask sends the grant's refresh token to the issuer.
func (r *refresh) ask(ctx context.Context, g grant) (answer, *trouble) {
	m := r.m
	if bad := m.pausedBy(ctx, r.f); bad != nil {
		return answer{}, bad
	}
	if r.f.app.Rotates {
		if bad := r.prove(ctx, g); bad != nil {
			return answer{}, bad
		}
	}
	if r.lease != nil && !r.lease.lasts(m.o.HTTPTimeout) {
		return answer{}, storage("the lease of the refresh was lost")
	}
	m.step("asking")
	params := func() url.Values {
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.refresh.Reveal()}}
	}
	a, bad := m.request(ctx, r.f.app, params())
	if bad != nil && bad.dropped && ctx.Err() == nil {
		// The issuer may have replaced the refresh token and the answer is lost. Those
		// that take the old one for some seconds more take it now.
		a, bad = m.request(ctx, r.f.app, params())
	}
	m.step("answered")
	if bad != nil && ctx.Err() != nil {
		return answer{}, ending()
	}
	if bad != nil {
		m.counted(ctx, r.f, bad)
		return answer{}, bad
	}
	m.Stats.Refreshes.Add(1)
	if !a.refresh.IsSet() {
		a.refresh = g.refresh
	}
	if a.scopes == nil {
		a.scopes = g.token.Scopes // RFC 6749 section 6: as before
	}
	return a, nil
}

// prove shows that grants can be written, by a write that must lose its
// check-and-set. Without it a policy that lets grants be read only, or a Vault that
// has just gone, would be noticed when the refresh token has been taken.
func (r *refresh) prove(ctx context.Context, g grant) *trouble {
	const trusted = time.Minute
	now := r.m.now()
	if now.Sub(time.Unix(0, r.m.provenAt.Load())) < trusted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	_, err := r.m.o.Grants.WriteGrant(ctx, r.f.ref.Tenant, r.f.ref.Connector, secret.Map{}, g.version+1<<30)
	if fault.CodeOf(err) != fault.Conflict {
		r.m.Stats.GrantFaults.Add(1)
		return storage("the consent can't be stored just now, so it is not refreshed")
	}
	r.m.provenAt.Store(now.UnixNano())
	return nil
}

// store writes an answer in g's place. stored is false when somebody else's is
// there: then the answer is void and the grant is to be read again.
func (r *refresh) store(ctx context.Context, g grant, a answer) (t token, stored bool, bad *trouble) {
	m, values := r.m, a.values(r.f.ref.Connector, r.f.app)
	m.step("writing")
	for n, end := 1, m.now().Add(m.o.WriteBudget); ; n++ {
		version, state := r.write(ctx, g.version, values)
		switch {
		case state == written:
			if n > 1 && a.replaced {
				m.Stats.Unstored.Add(-1)
			}
			m.step("written")
			return r.found(ctx, a.token(version, true)), true, nil
		case state == overtaken:
			if n > 1 && a.replaced {
				m.Stats.Unstored.Add(-1)
			}
			m.Stats.LostWrites.Add(1)
			return token{}, false, nil
		case !a.replaced:
			// The stored refresh token is still the one to use: nothing depends on the
			// write, and the token is this process' alone.
			return m.timed(r.f.key, a.token(g.version, true)), true, nil
		}
		if n == 1 {
			m.Stats.Unstored.Add(1)
			r.f.stuckBy = storage("the consent can't be stored just now, so its new token is not used")
			close(r.f.stuck)
		}
		if !m.now().Before(end) || !sleep(ctx, jittered(doubled(100*time.Millisecond, n, 5*time.Second))) {
			m.Stats.Unstored.Add(-1)
			m.Stats.Lost.Add(1)
			m.o.Log.Error("a replaced refresh token could not be stored and is given up",
				"tenant", r.f.ref.Tenant.String(), "connector", r.f.ref.Connector.String())
			return token{}, false, storage("the consent could not be stored")
		}
	}
}

type writeState int

const (
	unwritten writeState = iota
	written
	overtaken
)

// write tries once to put values in the place of version cas. Whether a write that
// brought no answer took place, and whose a lost check-and-set was, is read.
func (r *refresh) write(ctx context.Context, cas int64, values secret.Map) (int64, writeState) {
	m := r.m
	bounded, cancel := context.WithTimeout(ctx, grantTimeout)
	version, err := m.o.Grants.WriteGrant(bounded, r.f.ref.Tenant, r.f.ref.Connector, values, cas)
	cancel()
	if err == nil {
		m.provenAt.Store(m.now().UnixNano())
		return version, written
	}
	if fault.CodeOf(err) != fault.Conflict {
		m.provenAt.Store(0)
		m.Stats.GrantFaults.Add(1)
	}
	bounded, cancel = context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	latest, err := m.o.Grants.ReadGrant(bounded, r.f.ref.Tenant, r.f.ref.Connector)
	switch {
	case err == nil && latest.Version > cas && latest.Values.Equal(values):
		return latest.Version, written
	case latest.Version > cas && (err == nil || fault.CodeOf(err) == fault.NotFound):
		return 0, overtaken
	default:
		return 0, unwritten
	}
}

// found records and publishes a token that is stored, whether this process asked for
// it or its predecessor died before it could say so.
func (r *refresh) found(ctx context.Context, t token) token {
	t = r.m.timed(r.f.key, t)
	if t.version > r.row.Version {
		r.settle(ctx, t.version, connector.GrantActive)
	}
	r.m.step("settled")
	r.m.publish(ctx, r.f, t)
	r.m.step("published")
	return t
}

// settle records what was found out about a version. false: more is known. What
// can't be recorded now is found out again.
func (r *refresh) settle(ctx context.Context, version int64, status connector.GrantStatus) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	recorded, err := r.m.o.Lease.SettleGrant(ctx, r.f.ref.Tenant, r.f.ref.Connector, version, status)
	if err != nil {
		r.m.Stats.LeaseFaults.Add(1)
		return true
	}
	return recorded
}

// look reads the grant's row.
func (r *refresh) look(ctx context.Context) *trouble {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	row, err := r.m.o.Lease.Grant(ctx, r.f.ref.Tenant, r.f.ref.Connector)
	if err != nil {
		r.m.Stats.LeaseFaults.Add(1)
		return storage("the consent's state could not be read")
	}
	r.row = row
	return nil
}

// acquire takes the lease, or waits for who has it. ok: meanwhile there is a token.
func (r *refresh) acquire(ctx context.Context) (t token, ok bool, bad *trouble) {
	m, owner, end := r.m, r.m.newOwner(), r.m.now().Add(r.m.lease)
	for n := 0; ; n++ {
		begun := m.now()
		bounded, cancel := context.WithTimeout(ctx, leaseTimeout)
		row, got, err := m.o.Lease.AcquireGrant(bounded, r.f.ref.Tenant, r.f.ref.Connector, owner, m.lease)
		cancel()
		if err != nil {
			m.Stats.LeaseFaults.Add(1)
			return r.without(ctx)
		}
		r.row = row
		switch {
		case got:
			r.lease = m.hold(r.f.ref, owner, row.Epoch, begun)
			return token{}, false, nil
		case row.Status == connector.GrantNone:
			return token{}, false, noConsent()
		case n >= 3 && free(row):
			return token{}, false, noConsent() // nobody has it and nobody gets it: the connector was deleted
		}
		if n == 0 {
			m.Stats.LeaseWaits.Add(1)
		}
		if t, ok, bad := r.await(ctx, end); ok || bad != nil {
			return t, ok, bad
		}
	}
}

// free tells whether the lease can be had, by the database's clock.
func free(row connector.GrantRow) bool { return row.Owner == "" || !row.Until.After(row.At) }

// await waits until another's lease is over, and looks for what it leaves.
func (r *refresh) await(ctx context.Context, end time.Time) (token, bool, *trouble) {
	m := r.m
	for {
		if !sleep(ctx, 50*time.Millisecond+jittered(150*time.Millisecond)) {
			return token{}, false, ending()
		}
		if t, ok := m.load(ctx, r.f, r.least); ok {
			return t, true, nil
		}
		if bad := r.look(ctx); bad != nil {
			t, ok, bad := r.without(ctx)
			return t, ok, bad
		}
		if t, ok, bad := r.peek(ctx); ok || bad != nil {
			return t, ok, bad
		}
		if free(r.row) {
			return token{}, false, nil
		}
		if !m.now().Before(end) {
			return token{}, false, storage("another process is still at the refresh")
		}
	}
}

// peek reads the grant without the lease, where the row says that a version which
// would do is stored. ok: its token needs no renewal yet.
func (r *refresh) peek(ctx context.Context) (token, bool, *trouble) {
	if r.row.Status != connector.GrantActive || r.row.Version < r.least {
		return token{}, false, nil
	}
	g, bad := r.read(ctx)
	if bad != nil || !g.token.fresh(r.least, r.m.now()) {
		return token{}, false, bad
	}
	r.m.Stats.GrantHits.Add(1)
	return g.token, true, nil
}

// without decides what is done when the lease store doesn't answer. A grant that
// the issuer replaces could be lost to two refreshes at once. ok: a token is there;
// neither ok nor bad: go on without the lease.
func (r *refresh) without(ctx context.Context) (token, bool, *trouble) {
	if ctx.Err() != nil {
		return token{}, false, ending()
	}
	if r.f.app.Rotates || r.f.prove {
		g, bad := r.read(ctx)
		if bad == nil && !r.f.prove && g.token.fresh(r.f.ref.GrantVersion, r.m.now()) {
			r.m.Stats.GrantHits.Add(1)
			return g.token, true, nil
		}
		return token{}, false, &trouble{class: ours, code: providers.CodeStorageDown,
			err: fault.New(fault.Unavailable, "the lease of the refresh could not be taken")}
	}
	// Who holds nothing knows the version that is there, and the next may be made.
	t, ok := r.m.claim(ctx, r.f, r.least, r.least+1)
	return t, ok, nil
}
