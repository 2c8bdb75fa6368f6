package housekeeping_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// deleted gives acme a date, resumed takes it back.
func (w *world) deleted(at time.Time) {
	w.Helper()
	w.change(func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusSuspended, at
			return nil
		})
	})
}

func (w *world) resumed() {
	w.Helper()
	w.change(func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusReady, time.Time{}
			return nil
		})
	})
}

// announced empties the outbox, as a relay does.
func (w *world) announced() {
	w.Helper()
	for n := 1; n > 0; {
		var err error
		n, err = w.store.Relay(w.Context(), 100, func(context.Context, []connector.Message) error { return nil })
		w.ok(err)
	}
}

func (w *world) giveGrant(t tenant.ID, id connector.ID) {
	w.Helper()
	_, err := w.secrets.WriteGrant(w.Context(), t, id, secret.Map{"refresh_token": secret.New("r")}, 0)
	w.ok(err)
}

func (w *world) kept(t tenant.ID) int {
	w.Helper()
	ids, err := w.secrets.Connectors(w.Context(), t)
	w.ok(err)
	return len(ids)
}

// dying is the end of a process at its n-th step, before or after that took effect.
type dying struct {
	left  int
	after bool
}

var errDied = fault.New(fault.Unavailable, "the process died")

func (d *dying) step(do func() error) error {
	d.left--
	if d.left > 0 || d.left == 0 && d.after {
		if err := do(); err != nil || d.left > 0 {
			return err
		}
	}
	return errDied
}

type dyingStore struct {
	connector.Store
	d *dying
}

func (s dyingStore) BeginPurge(ctx context.Context, t tenant.ID) error {
	return s.d.step(func() error { return s.Store.BeginPurge(ctx, t) })
}

func (s dyingStore) PurgeRecords(ctx context.Context, t tenant.ID, _ int) (n int64, err error) {
	err = s.d.step(func() (err error) { n, err = s.Store.PurgeRecords(ctx, t, 1); return err })
	return n, err
}

func (s dyingStore) EndPurge(ctx context.Context, t tenant.ID, actor string) error {
	return s.d.step(func() error { return s.Store.EndPurge(ctx, t, actor) })
}

type dyingSecrets struct {
	vault.Store
	d *dying
}

func (s dyingSecrets) Destroy(ctx context.Context, ref connector.SecretRef) error {
	return s.d.step(func() error { return s.Store.Destroy(ctx, ref) })
}

func (s dyingSecrets) DestroyGrant(ctx context.Context, t tenant.ID, id connector.ID) error {
	return s.d.step(func() error { return s.Store.DestroyGrant(ctx, t, id) })
}

// A process that dies at any step leaves work that the next one ends, and never
// secrets that no record speaks of.
func TestPurgeDiesAtAnyStep(t *testing.T) {
	both(t, func(w *world) {
		hooli := tenant.MustID("hooli")
		_, err := w.store.Change(w.Context(), connector.Change{Create: []connector.Tenant{{ID: hooli, Name: "Hooli", Status: connector.StatusReady}}, Actor: "test"},
			func(context.Context, connector.Tx) error { return nil })
		w.ok(err)
		foreign := w.write(hooli, connector.NewID())
		w.giveGrant(hooli, foreign.Connector)
		for range 2 {
			ref := w.insert()
			next := w.write(acme, ref.Connector)
			w.update(ref.Connector, 1, func(c *connector.Connector) { c.Pin = next.Pin })
			w.giveGrant(acme, ref.Connector)
		}
		w.write(acme, connector.NewID()) // its transaction never happened
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.PutOrganization(ctx, connector.Organization{ID: tenant.MustOrganizationID("hq"), Name: "HQ", Active: true})
		})
		w.deleted(time.Now().Add(-time.Second))
		w.announced()
		deaths := 0
		for n := 1; ; n++ {
			ended := false
			for _, after := range []bool{false, true} {
				d := &dying{left: n, after: after}
				err := housekeeping.NewPurger(housekeeping.PurgerOptions{Store: dyingStore{w.store, d}, Secrets: dyingSecrets{w.secrets, d}}).Purge(w.Context())
				if ended = err == nil; ended {
					break
				}
				if deaths++; fault.CodeOf(err) != fault.Unavailable {
					w.Fatal(err)
				}
				records, err := w.store.Tenant(acme).List(w.Context(), connector.Filter{IncludeDeleted: true})
				if w.ok(err); len(records) < 2 && w.kept(acme) > 0 {
					w.Fatalf("after %d deaths records are gone before the secrets", deaths)
				}
			}
			if ended {
				break
			}
		}
		if deaths < 4 {
			w.Errorf("only %d deaths", deaths)
		}
		if purged, err := w.store.Purged(w.Context(), acme); err != nil || !purged || w.kept(acme) != 0 {
			w.Errorf("purged %v, %v; %d connectors have secrets", purged, err, w.kept(acme))
		}
		w.is("another tenant's", foreign, "alive")
		if g, err := w.secrets.ReadGrant(w.Context(), hooli, foreign.Connector); err != nil || g.Version != 1 {
			w.Errorf("another tenant's grant: %d, %v", g.Version, err)
		}

		// What a write that was under way leaves is the sweeper's, in that tenant alone.
		late, unknown := w.write(acme, connector.NewID()), w.write(tenant.MustID("globex"), connector.NewID())
		w.giveGrant(acme, connector.NewID())
		w.ahead = 8 * 24 * time.Hour
		w.sweep()
		w.is("what came late", late, "destroyed")
		w.is("an unknown tenant's", unknown, "alive")
		if w.kept(acme) != 0 {
			w.Error("a grant that came late stays")
		}
	})
}

// lateResume has somebody resume the tenant after it was found due.
type lateResume struct {
	connector.Store
	resume func()
}

func (l lateResume) BeginPurge(ctx context.Context, t tenant.ID) error {
	l.resume()
	return l.Store.BeginPurge(ctx, t)
}

func TestPurgeLeavesWhatIsNotDue(t *testing.T) {
	both(t, func(w *world) {
		ref := w.insert()
		w.giveGrant(acme, ref.Connector)
		untouched := func(what string, err error) {
			w.Helper()
			w.ok(err)
			w.is(what, ref, "alive")
			if g, err := w.secrets.ReadGrant(w.Context(), acme, ref.Connector); err != nil || g.Version != 1 {
				w.Errorf("%s: the grant has version %d, %v", what, g.Version, err)
			}
			list, err := w.store.Tenant(acme).List(w.Context(), connector.Filter{})
			if err != nil || len(list) != 1 {
				w.Errorf("%s: %v, %v", what, list, err)
			}
		}
		p := housekeeping.NewPurger(housekeeping.PurgerOptions{Store: w.store, Secrets: w.secrets})
		untouched("a tenant that is ready", p.Purge(w.Context()))
		w.deleted(time.Now().Add(time.Hour))
		untouched("before its date", p.Purge(w.Context()))
		w.deleted(time.Now().Add(-time.Second))
		late := housekeeping.NewPurger(housekeeping.PurgerOptions{Store: lateResume{w.store, w.resumed}, Secrets: w.secrets})
		untouched("resumed at the last moment", late.Purge(w.Context()))
		w.deleted(time.Now().Add(-time.Second))
		// A change that no sidecar has heard of keeps the tenant, though not what it had.
		if err := p.Purge(w.Context()); fault.CodeOf(err) != fault.Conflict || p.Purged.Load() != 0 {
			w.Errorf("before it was announced: %v", err)
		}
		if got, err := w.store.Tenant(acme).Get(w.Context()); err != nil || got.Status != connector.StatusSuspended {
			w.Errorf("%+v, %v", got, err)
		}
		w.announced()
		w.ok(p.Purge(w.Context()))
		if p.Purged.Load() != 1 {
			w.Errorf("%d tenants purged", p.Purged.Load())
		}
		trail, err := w.store.Tenant(acme).Audit(w.Context(), connector.AuditFilter{})
		w.ok(err)
		if !slices.ContainsFunc(trail, func(e connector.AuditEntry) bool { return e.Action == "tenant.purge" && e.Actor == "admin:purger" }) {
			w.Errorf("audited %+v", trail)
		}
	})
}
