package connector_test

import (
	"context"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// What the control plane does by itself passes a tenant that is on its way out by,
// and whoever writes to it is told.
func TestServiceBesideAPurge(t *testing.T) {
	both(t, func(w *world) {
		c := w.oauth("mail")
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
				t.Status, t.PurgeAt = connector.StatusSuspended, time.Now().Add(-time.Second)
				return nil
			})
		})
		w.ok(w.store.BeginPurge(w.ctx(), acme))
		_, err := w.store.SettleGrant(w.ctx(), acme, c.ID, 9, connector.GrantNeedsReauthorization)
		w.ok(err)
		moved, err := w.svc.AlignGrant(w.ctx(), connector.GrantDrift{Tenant: acme, Connector: c.ID, Version: 9, Status: connector.GrantNeedsReauthorization})
		if err != nil || moved {
			w.Errorf("aligned %v, %v", moved, err)
		}
		operator := w.sc
		operator.Platform = true
		_, err = w.svc.Create(w.ctx(), operator, w.draft("late", hq))
		w.code(err, fault.Conflict, "create too late")
		_, err = w.svc.List(w.ctx(), operator, connector.ListFilter{})
		w.ok(err)
		_, err = w.svc.List(w.ctx(), w.sc, connector.ListFilter{})
		w.code(err, fault.TenantSuspended, "its own admin")
	})
}
