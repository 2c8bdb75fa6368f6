package importer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// maxAttempts bounds how often Apply plans anew because someone else wrote.
const maxAttempts = 5

// Apply carries a plan out: all of it, or nothing. Secrets are written first,
// then one transaction changes all tenants of the file. When the state has moved
// since the plan was made, it plans anew and tries again. A plan that changes
// nothing opens no transaction, so no revision moves.
//
// Errors: fault.Conflict when file and store both changed; [datafile.Problems]
// when the moved state makes the file wrong; what the stores return. After
// fault.Unavailable the outcome is unknown; importing again settles it.
func (im *Importer) Apply(ctx context.Context, p *Plan) (Result, error) {
	for attempt := 1; ; attempt++ {
		if err := p.conflictError(); err != nil {
			return Result{}, err
		}
		if !p.Changed() {
			return p.result(nil), nil
		}
		revisions, err := im.apply(ctx, p)
		if err == nil {
			return p.result(revisions), nil
		}
		if !refused(err) || attempt == maxAttempts {
			return Result{}, fmt.Errorf("import %s: %w", p.file.Name, err)
		}
		if p, err = im.plan(ctx, p.file, p.options, p.expand); err != nil {
			return Result{}, err
		}
	}
}

func (p *Plan) result(revisions map[tenant.ID]int64) Result {
	return Result{
		Created:   p.Count(Create),
		Updated:   p.Count(Update) + p.Count(Restore),
		Unchanged: p.Count(Unchanged),
		Skipped:   p.Count(Skip),
		Revisions: revisions,
	}
}

// refused tells whether the transaction is known not to have happened because
// the state was another one than the plan's.
func refused(err error) bool {
	switch fault.CodeOf(err) {
	case fault.StaleVersion, fault.Conflict, fault.AlreadyExists, fault.NotFound:
		return true
	}
	return false
}

func (im *Importer) apply(ctx context.Context, p *Plan) (map[tenant.ID]int64, error) {
	change := connector.Change{Actor: p.options.Actor, Request: p.options.Request}
	changes, connectors := p.changes(), p.of()
	for _, t := range p.tenants {
		switch {
		case t.action == Create:
			change.Create = append(change.Create, t.next)
		case changes[t.next.ID]:
			change.Tenants = append(change.Tenants, t.next.ID)
		}
	}
	var written []connector.SecretRef
	pins := map[connector.ID]connector.Pin{}
	for _, c := range p.connectors {
		if !c.writes() || c.holdsNothing() {
			continue
		}
		if change.SecretsWritten.IsZero() {
			change.SecretsWritten = im.Now()
		}
		ref := connector.SecretRef{Tenant: c.tenant, Connector: c.next.ID, Pin: im.NewPin()}
		if err := im.Secrets.Write(ctx, ref, vault.Bundle{Values: c.secrets, Imported: c.imported}); err != nil {
			im.forget(ctx, written)
			return nil, fmt.Errorf("write secrets of %s: %w", c.label, notOurs(err))
		}
		written = append(written, ref)
		pins[c.next.ID] = ref.Pin
	}
	revisions, err := im.Store.Change(ctx, change, func(ctx context.Context, tx connector.Tx) error {
		for _, t := range p.tenants {
			if !changes[t.next.ID] {
				continue
			}
			if err := p.write(ctx, tx.Tenant(t.next.ID), t, connectors[t.next.ID], pins); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && (refused(err) || fault.CodeOf(err) == fault.InvalidArgument) {
		// After any other error the transaction may have happened, and its
		// secrets with it: those are the sweeper's to judge.
		im.forget(ctx, written)
	}
	return revisions, err
}

// notOurs keeps a vault's refusal from being read as a moved state: planning
// anew would not help.
func notOurs(err error) error {
	if refused(err) {
		return fault.New(fault.Internal, "the secret store refused a new path").WithCause(err)
	}
	return err
}

// forget soft-deletes secrets that nothing refers to, as far as it can.
func (im *Importer) forget(ctx context.Context, refs []connector.SecretRef) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, ref := range refs {
		// The sweeper finds what stays behind.
		_ = im.Secrets.Delete(ctx, ref)
	}
}

// write changes one tenant inside of the transaction. It may run more than once.
func (p *Plan) write(ctx context.Context, tx connector.TenantTx, t *tenantPlan, connectors []*connectorPlan, pins map[connector.ID]connector.Pin) error {
	if t.action == Update {
		if err := tx.UpdateTenant(ctx, func(s *connector.Tenant) error {
			s.Name, s.Status, s.ExternalID, s.NoUpdate = t.next.Name, t.next.Status, t.next.ExternalID, t.next.NoUpdate
			return nil
		}); err != nil {
			return err
		}
	}
	for _, o := range t.orgs {
		if o.action == Unchanged {
			continue
		}
		if err := tx.PutOrganization(ctx, o.next); err != nil {
			return err
		}
	}
	// A cleared default has a new version, which a later update must name.
	moved := map[connector.ID]int64{}
	for _, r := range p.replaced {
		if r.tenant != t.next.ID {
			continue
		}
		cleared, err := tx.ClearDefault(ctx, r.organization, r.category)
		if err != nil {
			return err
		}
		if cleared != r.old.ID {
			return fault.New(fault.StaleVersion, "another connector became the default meanwhile")
		}
		moved[cleared]++
	}
	// Those that stop being a default come first, so that a slot is free when
	// its next one arrives.
	for _, defaults := range []bool{false, true} {
		for _, c := range connectors {
			if !c.writes() || c.next.Default != defaults {
				continue
			}
			if err := c.write(ctx, tx, moved[c.next.ID], pins[c.next.ID]); err != nil {
				return err
			}
		}
	}
	return nil
}

// holdsNothing tells whether there is no bundle to write. One without a secret may
// still remember what was imported, so that the same file brings back nothing that
// was cleared by hand.
func (c *connectorPlan) holdsNothing() bool { return len(c.secrets) == 0 && len(c.imported) == 0 }

func (c *connectorPlan) write(ctx context.Context, tx connector.TenantTx, moved int64, pin connector.Pin) error {
	next := c.next
	switch {
	case !pin.IsZero():
		next.Pin = pin
	case c.secrets != nil:
		// Not where nothing of them changed: after the last secret was cleared by
		// hand, the pin still leads to what was imported.
		next.Pin = connector.Pin{}
	}
	if c.action == Create {
		return tx.Insert(ctx, next)
	}
	if c.unbinds {
		row, err := tx.Grant(ctx, next.ID)
		if err != nil {
			return err
		}
		if row.Status != connector.GrantNone && c.consents {
			next.State = connector.StateNeedsReauthorization
		}
		// What the secret store has of it is the sweeper's to remove.
		if err := tx.DeleteGrant(ctx, next.ID); err != nil {
			return err
		}
	}
	return tx.Update(ctx, next.ID, c.stored.Version+moved, func(s *connector.Connector) error {
		s.Name, s.SchemaVersion, s.State = next.Name, next.SchemaVersion, next.State
		s.Active, s.Default, s.BlockPinned, s.NoUpdate = next.Active, next.Default, next.BlockPinned, next.NoUpdate
		s.Params, s.Secrets, s.Pin = next.Params, next.Secrets, next.Pin
		if c.action == Restore {
			s.DeletedAt = time.Time{}
		}
		return nil
	})
}

// Tenants lists the tenants that the plan touches, in id order.
func (p *Plan) Tenants() []tenant.ID {
	ids := make([]tenant.ID, len(p.tenants))
	for i, t := range p.tenants {
		ids[i] = t.next.ID
	}
	return slices.Clip(ids)
}
