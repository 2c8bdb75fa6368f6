package connector

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// TenantPage is a part of a list.
type TenantPage struct {
	Items []Tenant  // by id; never nil
	Next  tenant.ID // to go on after; zero: there are no more
}

// WrittenTenant is the outcome of a write.
type WrittenTenant struct {
	Tenant   Tenant
	Revision int64 // of the tenant
	Replayed bool  // as Written.Replayed
}

// The audit's names for verbs on tenants, beside those of the stores' writes.
const (
	actionTenantSuspend = "tenant.suspend"
	actionTenantResume  = "tenant.resume"
	actionTenantDelete  = "tenant.delete"
)

// platform is needed for what is about tenants themselves.
func (sc Scope) platform() error {
	if !sc.Platform {
		return fault.New(fault.PermissionDenied, "tenants are the platform's operator's")
	}
	if sc.Actor == "" {
		return fault.New(fault.InvalidArgument, "a scope names an actor")
	}
	return nil
}

// Tenants lists tenants, for the platform's operator.
// Errors: fault.PermissionDenied for anybody else; fault.InvalidArgument for a limit
// out of bounds.
func (s *Service) Tenants(ctx context.Context, sc Scope, f TenantFilter) (TenantPage, error) {
	out := TenantPage{Items: []Tenant{}}
	if err := sc.platform(); err != nil {
		return out, err
	}
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = limit + 1
	list, err := s.o.Store.Tenants(ctx, f)
	if err != nil {
		return out, err
	}
	items, more := page(list, limit)
	if out.Items = items; more {
		out.Next = items[limit-1].ID
	}
	return out, nil
}

// GetTenant returns one, for the platform's operator.
// Errors: fault.PermissionDenied, fault.NotFound.
func (s *Service) GetTenant(ctx context.Context, sc Scope, id tenant.ID) (Tenant, error) {
	if err := sc.platform(); err != nil {
		return Tenant{}, err
	}
	return s.o.Store.Tenant(id).Get(ctx)
}

// TenantDraft is a tenant to be created, ready.
type TenantDraft struct {
	ID   string // as tenant.ParseID takes it
	Name string // "" is the id
	Once *RequestKey
}

// CreateTenant makes a tenant. The key of Once is the actor's own, whatever tenant
// the scope names.
// Errors: fault.AlreadyExists, also for the id of a tenant that was deleted for
// good; fault.PermissionDenied; fault.InvalidArgument; fault.Conflict while the
// request of Once is under way.
func (s *Service) CreateTenant(ctx context.Context, sc Scope, d TenantDraft) (WrittenTenant, error) {
	if err := sc.platform(); err != nil {
		return WrittenTenant{}, err
	}
	var vs []fault.Violation
	id, err := tenant.ParseID(d.ID)
	switch {
	case d.ID == "":
		vs = append(vs, fault.Violation{Pointer: "/id", Code: "required", Message: "is required"})
	case err != nil:
		vs = append(vs, fault.Violation{Pointer: "/id", Code: "format", Message: idFormat})
	}
	if d.Name == "" {
		d.Name = d.ID
	} else {
		vs = append(vs, checkName(d.Name)...)
	}
	if err := invalid("the tenant has a problem", vs); err != nil {
		return WrittenTenant{}, err
	}
	sc.Tenant = tenant.ID{} // there is none yet
	held, done, err := s.claim(ctx, sc, d.Once)
	if err != nil {
		return WrittenTenant{}, err
	}
	if done != nil {
		t, err := s.o.Store.Tenant(id).Get(ctx)
		return WrittenTenant{Tenant: t, Revision: done.Revision, Replayed: true}, err
	}
	t := Tenant{ID: id, Name: d.Name, Status: StatusReady}
	revisions, err := s.o.Store.Change(ctx, Change{Create: []Tenant{t}, Actor: sc.Actor, Request: sc.Request},
		func(ctx context.Context, tx Tx) error { return held.settle(ctx, tx.Tenant(id), id.String()) })
	if err != nil {
		s.release(ctx, held)
		return WrittenTenant{}, err
	}
	return s.writtenTenant(ctx, t, revisions[id]), nil
}

// RenameTenant gives a tenant another name.
// Errors: fault.NotFound, fault.PermissionDenied, fault.InvalidArgument.
func (s *Service) RenameTenant(ctx context.Context, sc Scope, id tenant.ID, name string) (WrittenTenant, error) {
	if err := sc.platform(); err != nil {
		return WrittenTenant{}, err
	}
	if err := invalid("the tenant has a problem", checkName(name)); err != nil {
		return WrittenTenant{}, err
	}
	return s.changeTenant(ctx, sc, id, "", func(t *Tenant) { t.Name = name })
}

// SuspendTenant refuses whatever is asked for the tenant, by its apps within a
// second, until it is resumed.
// Errors: fault.NotFound, fault.PermissionDenied.
func (s *Service) SuspendTenant(ctx context.Context, sc Scope, id tenant.ID) (WrittenTenant, error) {
	return s.changeTenant(ctx, sc, id, actionTenantSuspend, func(t *Tenant) { t.Status = StatusSuspended })
}

// ResumeTenant ends a suspension, and a deletion whose purge has not begun.
// Errors: fault.NotFound, fault.PermissionDenied; fault.Conflict when it has.
func (s *Service) ResumeTenant(ctx context.Context, sc Scope, id tenant.ID) (WrittenTenant, error) {
	return s.changeTenant(ctx, sc, id, actionTenantResume, func(t *Tenant) { t.Status, t.PurgeAt = StatusReady, time.Time{} })
}

// DeleteTenant suspends a tenant and sets the date on which it may go for good, the
// service's TenantGrace from now; one that has a date keeps it. Housekeeping does
// the rest (Purges).
// Errors: fault.NotFound, fault.PermissionDenied; fault.Conflict when its purge has
// begun.
func (s *Service) DeleteTenant(ctx context.Context, sc Scope, id tenant.ID) (WrittenTenant, error) {
	return s.changeTenant(ctx, sc, id, actionTenantDelete, func(t *Tenant) {
		t.Status = StatusSuspended
		if t.PurgeAt.IsZero() {
			t.PurgeAt = s.o.Now().UTC().Add(s.o.TenantGrace).Truncate(time.Microsecond)
		}
	})
}

// changeTenant carries out a verb, which the audit names beside the store's own
// entry of what changed; "" when that says it all.
func (s *Service) changeTenant(ctx context.Context, sc Scope, id tenant.ID, action string, fn func(t *Tenant)) (WrittenTenant, error) {
	if err := sc.platform(); err != nil {
		return WrittenTenant{}, err
	}
	var next Tenant
	revisions, err := s.o.Store.Change(ctx, Change{Tenants: []tenant.ID{id}, Actor: sc.Actor, Request: sc.Request},
		func(ctx context.Context, tx Tx) error {
			same := false
			err := tx.Tenant(id).UpdateTenant(ctx, func(t *Tenant) error {
				before := *t
				fn(t)
				next, same = *t, *t == before
				return nil
			})
			switch {
			case err != nil:
				return err
			case same:
				return ErrNoChange
			case action == "":
				return nil
			}
			return tx.Tenant(id).Audit(ctx, AuditEntry{Action: action, Target: id.String(), Outcome: outcomeOK})
		})
	if err != nil {
		return WrittenTenant{}, err
	}
	return s.writtenTenant(ctx, next, revisions[id]), nil
}

// writtenTenant reads the outcome of a change. The change is committed: when it
// can't be read, planned is what was written.
func (s *Service) writtenTenant(ctx context.Context, planned Tenant, revision int64) WrittenTenant {
	if t, err := s.o.Store.Tenant(planned.ID).Get(ctx); err == nil {
		planned = t
	}
	return WrittenTenant{Tenant: planned, Revision: revision}
}
