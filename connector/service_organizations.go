package connector

import (
	"cmp"
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// OrganizationPage is a part of a list.
type OrganizationPage struct {
	Items []Organization        // by id; never nil
	Next  tenant.OrganizationID // to go on after; zero: there are no more
}

// page cuts a list that was read with one item more than limit, and tells whether
// there are more.
func page[T any](list []T, limit int) (items []T, more bool) {
	if len(list) > limit {
		return list[:limit], true
	}
	return append([]T{}, list...), false
}

// pageLimit is how many items a page has, of what was asked.
func pageLimit(limit int) (int, error) {
	if limit < 0 || limit > MaxPage {
		return 0, fault.Newf(fault.InvalidArgument, "a page has 1 to %d items", MaxPage)
	}
	return cmp.Or(limit, 50), nil
}

// Organizations lists the organizations within the scope.
// Errors: fault.InvalidArgument for a limit out of bounds.
func (s *Service) Organizations(ctx context.Context, sc Scope, f OrganizationFilter) (OrganizationPage, error) {
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return OrganizationPage{Items: []Organization{}}, err
	}
	if err := s.admit(ctx, sc); err != nil {
		return OrganizationPage{Items: []Organization{}}, err
	}
	f.Limit, f.Bound, f.Organizations = limit+1, !sc.AllOrganizations, sc.Organizations
	list, err := s.o.Store.Tenant(sc.Tenant).Organizations(ctx, f)
	if err != nil {
		return OrganizationPage{Items: []Organization{}}, err
	}
	items, more := page(list, limit)
	out := OrganizationPage{Items: items}
	if more {
		out.Next = items[limit-1].ID
	}
	return out, nil
}

func noOrganization() error { return fault.New(fault.NotFound, "there is no such organization") }

// Organization returns one.
func (s *Service) Organization(ctx context.Context, sc Scope, id tenant.OrganizationID) (Organization, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Organization{}, err
	}
	if !sc.reaches(id) {
		return Organization{}, noOrganization()
	}
	return findOrganization(ctx, s.o.Store.Tenant(sc.Tenant), id)
}

// findOrganization reads one. Errors: fault.NotFound.
func findOrganization(ctx context.Context, r TenantReader, id tenant.OrganizationID) (Organization, error) {
	list, err := r.Organizations(ctx, OrganizationFilter{Bound: true, Organizations: []tenant.OrganizationID{id}})
	switch {
	case err != nil:
		return Organization{}, err
	case len(list) == 0:
		return Organization{}, noOrganization()
	}
	return list[0], nil
}

// OrganizationDraft is an organization to be created, active.
type OrganizationDraft struct {
	ID   string // as tenant.ParseOrganizationID takes it
	Name string // "" is the id
	Once *RequestKey
}

// OrganizationEdit is a change of an organization. nil is kept.
type OrganizationEdit struct {
	Name *string
	// Active false refuses every resolution for it, within a second and until it is
	// true again.
	Active *bool
}

// WrittenOrganization is the outcome of a write.
type WrittenOrganization struct {
	Organization Organization
	Revision     int64 // of the tenant
	Replayed     bool  // as Written.Replayed
}

// everyOrganization is needed for what is about the organizations themselves.
func (sc Scope) everyOrganization() error {
	if !sc.AllOrganizations {
		return fault.New(fault.PermissionDenied, "organizations are made and changed by who reaches all of them")
	}
	return nil
}

// CreateOrganization makes an organization.
// Errors: fault.AlreadyExists; fault.PermissionDenied for a scope that is bound to
// organizations; fault.InvalidArgument.
func (s *Service) CreateOrganization(ctx context.Context, sc Scope, d OrganizationDraft) (WrittenOrganization, error) {
	if err := s.admit(ctx, sc); err != nil {
		return WrittenOrganization{}, err
	}
	if err := sc.everyOrganization(); err != nil {
		return WrittenOrganization{}, s.refused(ctx, sc, actionOrganizationCreate, "", nil, err)
	}
	id, vs := organizationID(d.ID)
	if d.Name == "" {
		d.Name = d.ID
	} else {
		vs = append(vs, checkName(d.Name)...)
	}
	if err := invalid("the organization has a problem", vs); err != nil {
		return WrittenOrganization{}, err
	}
	held, done, err := s.claim(ctx, sc, d.Once)
	if err != nil {
		return WrittenOrganization{}, err
	}
	if done != nil {
		o, err := s.Organization(ctx, sc, id)
		return WrittenOrganization{Organization: o, Revision: done.Revision, Replayed: true}, err
	}
	o := Organization{ID: id, Name: d.Name, Active: true}
	revision, err := s.change(ctx, sc, time.Time{}, func(ctx context.Context, tx TenantTx) error {
		_, err := tx.Organization(ctx, id)
		switch {
		case err == nil:
			return fault.New(fault.AlreadyExists, "there is such an organization already")
		case fault.CodeOf(err) != fault.NotFound:
			return err
		}
		if err := tx.PutOrganization(ctx, o); err != nil {
			return err
		}
		return held.settle(ctx, tx, id.String())
	})
	if err != nil {
		s.release(ctx, held)
		return WrittenOrganization{}, err
	}
	return s.writtenOrganization(ctx, sc, o, revision), nil
}

// UpdateOrganization changes an organization.
// Errors: as CreateOrganization's, but for fault.AlreadyExists.
func (s *Service) UpdateOrganization(ctx context.Context, sc Scope, id tenant.OrganizationID, e OrganizationEdit) (WrittenOrganization, error) {
	if err := s.admit(ctx, sc); err != nil {
		return WrittenOrganization{}, err
	}
	if !sc.reaches(id) {
		return WrittenOrganization{}, noOrganization()
	}
	if err := sc.everyOrganization(); err != nil {
		return WrittenOrganization{}, s.refused(ctx, sc, actionOrganizationUpdate, id.String(), nil, err)
	}
	if e.Name != nil {
		if err := invalid("the organization has a problem", checkName(*e.Name)); err != nil {
			return WrittenOrganization{}, err
		}
	}
	var next Organization
	revision, err := s.change(ctx, sc, time.Time{}, func(ctx context.Context, tx TenantTx) error {
		old, err := tx.Organization(ctx, id)
		if err != nil {
			return err
		}
		next = old
		if e.Name != nil {
			next.Name = *e.Name
		}
		if e.Active != nil {
			next.Active = *e.Active
		}
		if next == old {
			return ErrNoChange
		}
		return tx.PutOrganization(ctx, next)
	})
	if err != nil {
		return WrittenOrganization{}, err
	}
	return s.writtenOrganization(ctx, sc, next, revision), nil
}

// writtenOrganization reads the outcome of a change. The change is committed: when
// it can't be read, planned is what was written.
func (s *Service) writtenOrganization(ctx context.Context, sc Scope, planned Organization, revision int64) WrittenOrganization {
	if o, err := s.Organization(ctx, sc, planned.ID); err == nil {
		planned = o
	}
	return WrittenOrganization{Organization: planned, Revision: revision}
}

func organizationID(text string) (tenant.OrganizationID, []fault.Violation) {
	id, err := tenant.ParseOrganizationID(text)
	switch {
	case text == "":
		return id, []fault.Violation{{Pointer: "/id", Code: "required", Message: "is required"}}
	case err != nil:
		return id, []fault.Violation{{Pointer: "/id", Code: "format", Message: idFormat}}
	}
	return id, nil
}

const idFormat = "must be 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"

func invalid(message string, vs []fault.Violation) error {
	if len(vs) == 0 {
		return nil
	}
	return fault.New(fault.InvalidArgument, message).WithViolations(vs...)
}
