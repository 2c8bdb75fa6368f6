package housekeeping_test

import (
	"context"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// consent writes a grant, as a consent does before its transaction.
func (w *world) consent(id connector.ID, cas int64) int64 {
	w.Helper()
	v, err := w.secrets.WriteGrant(w.Context(), acme, id, secret.Map{"refresh_token": secret.New("r")}, cas)
	w.ok(err)
	return v
}

// granted is a connector with a grant that the database knows.
func (w *world) granted() connector.ID {
	w.Helper()
	id := w.insert().Connector
	v := w.consent(id, 0)
	w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, id, v) })
	return id
}

func (w *world) disconnect(id connector.ID) {
	w.Helper()
	w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, id) })
}

// holds fails unless the secret store has a grant with a token, or none, of the
// version.
func (w *world) holds(what string, id connector.ID, token bool, version int64) {
	w.Helper()
	g, err := w.secrets.ReadGrant(w.Context(), acme, id)
	w.ok(err)
	if g.Values["refresh_token"].IsSet() != token || g.Version != version {
		w.Errorf("%s: version %d, with a token: %v; want version %d, %v", what, g.Version, g.Values["refresh_token"].IsSet(), version, token)
	}
}

func TestSweepForgetsGrants(t *testing.T) {
	both(t, func(w *world) {
		used, disconnected, deleted := w.granted(), w.granted(), w.granted()
		refused := w.granted()
		if _, err := w.store.SettleGrant(w.Context(), acme, refused, 1, connector.GrantNeedsReauthorization); err != nil {
			t.Fatal(err)
		}
		w.disconnect(disconnected)
		w.update(deleted, 1, func(c *connector.Connector) { c.DeletedAt = time.Now() })
		uncommitted := w.insert().Connector // its consent's transaction never came
		w.consent(uncommitted, 0)
		unknown := connector.NewID() // a connector that the database lost
		w.consent(unknown, 0)

		w.ahead = 59 * time.Minute // a consent may be about to commit
		w.sweep()
		w.holds("young", disconnected, true, 1)

		w.ahead = 61 * time.Minute
		w.sweep()
		w.sweep() // a second replica finds nothing more to do
		w.holds("in use", used, true, 1)
		w.holds("refused, for its row says so", refused, true, 1)
		w.holds("of a connector that can be restored as it was", deleted, true, 1)
		w.holds("disconnected", disconnected, false, 2)
		w.holds("without a transaction", uncommitted, false, 2)
		w.holds("of an unknown connector", unknown, false, 2)

		// The account is connected again: versions go on.
		v := w.consent(disconnected, 2)
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, disconnected, v) })
		before, err := w.store.Revisions(w.Context(), []tenant.ID{acme})
		w.ok(err)

		w.ahead = 7*24*time.Hour - time.Minute
		w.sweep()
		w.holds("of one deleted for less than seven days", deleted, true, 1)
		w.holds("of an unknown connector, for less than seven days", unknown, false, 2)
		w.ahead = 7*24*time.Hour + time.Minute
		w.sweep()
		w.holds("of one deleted for seven days", deleted, false, 2)
		w.holds("of an unknown connector", unknown, false, 0)
		w.holds("of a connector that lives, its versions", uncommitted, false, 2)
		w.holds("connected again", disconnected, true, 3)
		w.holds("in use", used, true, 1)

		after, err := w.store.Revisions(w.Context(), []tenant.ID{acme})
		w.ok(err)
		if after.Revision[acme] != before.Revision[acme] {
			w.Error("sweeping moved the tenant's revision: every sidecar would read everything again")
		}
	})
}

// consenting has a user consent after the sweeper has looked at the grant.
type consenting struct {
	connector.Store
	first func()
}

func (c *consenting) Grant(ctx context.Context, t tenant.ID, id connector.ID) (connector.GrantRow, error) {
	row, err := c.Store.Grant(ctx, t, id)
	c.first()
	return row, err
}

// A consent between the sweeper's look and its write is not lost.
func TestSweepLosesToAConsent(t *testing.T) {
	both(t, func(w *world) {
		id := w.granted()
		w.disconnect(id)
		w.ahead = 2 * time.Hour
		s := w.sweeper(&consenting{Store: w.store, first: func() { w.consent(id, 1) }})
		w.ok(s.Sweep(w.Context()))
		w.holds("consented to meanwhile", id, true, 2)
		if s.Forgotten.Load() != 0 {
			w.Errorf("%d forgotten", s.Forgotten.Load())
		}
	})
}

// Vault was away when the grant was ended: what the database has forgotten is taken
// out once it is back.
func TestSweepCatchesUpWithVault(t *testing.T) {
	t.Parallel()
	vlt := testenv.NewVault(t)
	w := serversOn(t, vlt)
	id := w.granted()
	vlt.Kill()
	w.disconnect(id)
	w.ahead = 2 * time.Hour
	s := housekeeping.New(housekeeping.Options{Store: w.store, Secrets: w.secrets, Now: func() time.Time { return time.Now().Add(w.ahead) }})
	if err := s.Sweep(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("without Vault: %v", err)
	}
	vlt.Start(t)
	for end := time.Now().Add(30 * time.Second); s.Sweep(t.Context()) != nil; {
		if time.Now().After(end) {
			t.Fatal("Vault is back, and no pass reaches its end")
		}
		<-time.After(50 * time.Millisecond)
	}
	w.holds("after the outage", id, false, 2)
	if s.Forgotten.Load() != 1 {
		t.Errorf("%d forgotten", s.Forgotten.Load())
	}
}
