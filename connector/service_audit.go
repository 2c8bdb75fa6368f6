package connector

import (
	"context"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// AuditPage is a part of the audit.
type AuditPage struct {
	Items []AuditEntry // newest first; never nil
	Next  int64        // AuditFilter.Before of the next page; 0: there are no more
}

// Audit lists audit entries within the scope: one that is bound to organizations
// sees what is about them. The platform's operator sees those of a tenant that was
// deleted for good too, for as long as they are kept. Limit is at most MaxPage; 0: 50.
// Errors: fault.InvalidArgument for a limit out of bounds.
func (s *Service) Audit(ctx context.Context, sc Scope, f AuditFilter) (AuditPage, error) {
	page := AuditPage{Items: []AuditEntry{}}
	if f.Limit == 0 {
		f.Limit = 50
	}
	if f.Limit < 0 || f.Limit > MaxPage {
		return page, fault.Newf(fault.InvalidArgument, "a page has 1 to %d items", MaxPage)
	}
	if err := s.admitAudit(ctx, sc); err != nil {
		return page, err
	}
	f.Bound, f.Organizations = !sc.AllOrganizations, sc.Organizations
	limit := f.Limit
	f.Limit++
	list, err := s.o.Store.Tenant(sc.Tenant).Audit(ctx, f)
	if err != nil {
		return page, err
	}
	page.Items = append(page.Items, list[:min(len(list), limit)]...)
	if len(list) > limit {
		page.Next = list[limit-1].ID
	}
	return page, nil
}

// admitAudit is admit, for what outlives a tenant.
func (s *Service) admitAudit(ctx context.Context, sc Scope) error {
	err := s.admit(ctx, sc)
	if fault.CodeOf(err) != fault.NotFound || !sc.Platform {
		return err
	}
	if purged, also := s.o.Store.Purged(ctx, sc.Tenant); also != nil || !purged {
		return err
	}
	return nil
}
