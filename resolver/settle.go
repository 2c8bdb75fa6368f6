package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// settle turns a record into an entry in memory: the held one, renewed, when the
// facts are the same, else a new one with its secrets and backend.
func (r *Resolver) settle(ctx context.Context, k key, st *state, rec record, at, begun instant) (*entry, mark, error) {
	m := mark{revision: rec.Revision, at: at}
	digest, err := rec.Facts.digest()
	if err != nil {
		return nil, m, err
	}
	if held, ok := r.memory.GetIfPresent(k); ok && held.state == st {
		if held.digest == digest {
			// One that was found wrong once is made anew even if the change was undone.
			if !held.ended() && !held.wrong.Load() {
				held.revalidate(m)
				r.Stats.Unchanged.Add(1)
				return held, m, nil
			}
		} else if m.after(*held.mark.Load()) {
			// Known to be wrong from here on, even if its successor can't be built.
			held.wrong.Store(true)
		}
	}
	category := k.category
	if c := rec.Facts.Connector; c != nil {
		category = c.Category
	}
	e := &entry{state: st, digest: digest, session: r.sessions.get(k.session), maxStale: r.maxStale(category)}
	e.mark.Store(&m)
	if e.err = rec.Facts.verdict(!k.id.IsZero()); e.err == nil {
		switch err := r.build(ctx, k, rec.Facts, e); {
		case err == nil:
		case errors.Is(err, errDraft):
			e.err = err // the facts', as a verdict is
		case !e.refused(err, r.o.NegativeTTL):
			return nil, m, err
		}
	}
	r.keep(k, e, m, begun)
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
func (r *Resolver) keep(k key, e *entry, m mark, begun instant) {
	r.memory.Compute(k, func(old *entry, found bool) (*entry, otterOp) {
		if !r.admissible(e.state, m, begun) || e.session != nil && !e.session.Live() {
			return old, otterCancel
		}
		if found && !old.state.dead.Load() && old.mark.Load().after(m) {
			return old, otterCancel
		}
		e.state.entries.Add(1)
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
	secrets, err := r.secretsOf(ctx, e.session, connector.SecretRef{Tenant: k.tenant, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		return err
	}
	cfg, err := p.Schema().Decode(providers.Input{Params: c.Params, Secrets: secrets}, providers.DecodeOptions{Version: c.Schema})
	switch {
	case err != nil && !c.Active:
		return errDraft
	case err != nil:
		r.o.Log.Error("a stored connector does not fit its kind", "tenant", k.tenant.String(),
			"connector", c.ID.String(), "kind", string(c.Kind), "error", err)
		return fault.New(fault.Unavailable, "the connector's stored config does not fit its kind; save it again").WithCause(err)
	}
	minted, err := r.tokens(&cfg, p, k, f)
	if err != nil {
		return err
	}
	b, err := p.Backend(ctx, cfg)
	if err != nil {
		return err
	}
	e.expires = b.ExpiresAt
	if minted {
		e.facts = &f
		e.refresh.Store(r.refreshAt(b))
	}
	e.body, e.etag, err = encodeBody(f, b)
	return err
}

// secretsOf returns the bundle under a pin, read once however many ask with the
// same right.
func (r *Resolver) secretsOf(ctx context.Context, session Session, ref connector.SecretRef) (secret.Map, error) {
	if ref.Pin.IsZero() {
		return nil, nil
	}
	pin, source := pinKey{ref: ref}, r.o.Secrets
	if session != nil {
		pin.session, source = session.ID(), session
	}
	if b, ok := r.pins.GetIfPresent(pin); ok {
		return unpack(b), nil
	}
	name := ref.Tenant.String() + "/" + ref.Connector.String() + "/" + ref.Pin.String() + "/" + strconv.FormatUint(pin.session, 36)
	ch := r.secrets.DoChan(name, func() (any, error) {
		if b, ok := r.pins.GetIfPresent(pin); ok {
			return unpack(b), nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.FlightTimeout)
		defer cancel()
		r.Stats.VaultReads.Add(1)
		b, err := source.Read(ctx, ref)
		switch {
		case err == nil:
			if session == nil || session.Live() {
				r.pins.Set(pin, pack(b.Values))
			}
			return b.Values, nil
		case fault.CodeOf(err) == fault.NotFound:
			// A clear answer: deleted or destroyed. It is the operator's deed, and
			// nothing held may stand in for it.
			return nil, errSecretsGone
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

// errDraft is the answer for a connector that was made and not completed yet: it
// has an id, and nothing that an app could use.
var errDraft = fault.New(fault.Inactive, "the connector is a draft: its config is not complete yet")

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
