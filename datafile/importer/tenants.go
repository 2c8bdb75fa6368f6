package importer

import (
	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/tenant"
)

// planTenant says what happens to the tenant's own record.
func (p *planner) planTenant(s *tenantState) {
	plan := &tenantPlan{action: Unchanged, next: s.stored}
	s.plan = plan
	if !s.exists {
		plan.action = Create
		plan.next = connector.Tenant{ID: s.id, Name: s.id.String(), Status: connector.StatusReady}
	}
	if s.record == nil {
		switch {
		case s.exists:
		case p.o.DefaultTenant.IsZero():
			s.missing = true
		default:
			plan.note = "only referred to"
		}
		return
	}
	r := s.record.Record
	name, status := p.tenantFields(r)
	if s.exists && r.NoUpdate {
		plan.note = noteNoUpdate
		return
	}
	if p.o.FixedTenant {
		if !s.exists || name != "" && name != plan.next.Name || status != "" && connector.Status(status) != plan.next.Status {
			p.problem(r.Position, r, "the tenant itself is made and changed by the platform's operator; leave name and status out, or as they are")
		}
		return
	}
	next := &plan.next
	set(&next.Name, name, name != "", "name", &plan.changed)
	set(&next.Status, connector.Status(status), status != "", "status", &plan.changed)
	set(&next.ExternalID, r.ID, externalID(next.ExternalID, r.ID, datafile.ModelTenant+"."+s.id.String()), "external id", &plan.changed)
	set(&next.NoUpdate, r.NoUpdate, true, "noupdate", &plan.changed)
	plan.settle(s.exists)
}

func (p *planner) tenantFields(r *datafile.Record) (name, status string) {
	name = p.name(r, "name", "company_name")
	status, at := p.text(r, "status")
	if status != "" && status != string(connector.StatusReady) && status != string(connector.StatusSuspended) {
		p.problem(at, r, "status must be ready or suspended")
	}
	return name, status
}

// lintOwners checks the tenants and organizations that have no plan because it is
// not known which they are.
func (p *planner) lintOwners() {
	for _, t := range p.tenantRecords {
		if p.states[t.id] == nil {
			p.tenantFields(t.Record)
		}
	}
	for _, o := range p.organizations {
		if o.id.IsZero() || p.states[o.tenant] == nil {
			p.name(o.Record, "name")
			p.boolean(o.Record, "active")
		}
	}
}

func (t *tenantPlan) settle(exists bool) {
	if !exists {
		t.changed = nil
	} else if len(t.changed) > 0 {
		t.action = Update
	}
}

// missingTenants reports each record that needs a tenant which does not exist.
func (p *planner) missingTenants() {
	const message = "tenant %s does not exist; add a gateway.tenant record"
	for _, o := range p.organizations {
		if s := p.states[o.tenant]; s != nil && s.missing {
			p.problem(o.Position, o.Record, message, s.id)
		}
	}
	for _, c := range p.connectors {
		if s := p.states[c.tenant]; s != nil && s.missing {
			p.problem(c.Position, c.Record, message, s.id)
		}
	}
}

// set changes *field to value when given, and notes the name of a change.
func set[T comparable](field *T, value T, given bool, name string, changed *[]string) {
	if given && *field != value {
		*field = value
		*changed = append(*changed, name)
	}
}

// externalID tells whether the record's id becomes the external id: always but
// where it is only the derived form, which finds the record without being kept.
func externalID(stored, record, derived string) bool {
	return stored != "" || record != derived
}

// planOrganizations says what happens to the tenant's organizations that the
// file declares. Those that are only referred to are added by organization.
func (p *planner) planOrganizations(s *tenantState) {
	for _, o := range p.by.inTenant[s.id] {
		if o.id.IsZero() {
			continue
		}
		stored, exists := s.organizations[o.id]
		plan := &organizationPlan{action: Unchanged, next: stored}
		name := p.name(o.Record, "name")
		active, _ := p.boolean(o.Record, "active")
		if id, taken := s.external[o.ID]; taken && id != o.id {
			p.problem(o.Position, o.Record, "this record id is already that of organization %s", id)
		}
		s.plan.orgs = append(s.plan.orgs, plan)
		s.planned[o.id] = true
		if exists && o.NoUpdate {
			plan.note = noteNoUpdate
			continue
		}
		if !exists {
			plan.action = Create
			plan.next = connector.Organization{ID: o.id, Name: o.id.String(), Active: true}
		}
		set(&plan.next.Name, name, name != "", "name", &plan.changed)
		if active != nil {
			set(&plan.next.Active, *active, true, "active", &plan.changed)
		}
		set(&plan.next.ExternalID, o.ID, externalID(plan.next.ExternalID, o.ID, datafile.ModelOrganization+"."+o.id.String()), "external id", &plan.changed)
		set(&plan.next.NoUpdate, o.NoUpdate, true, "noupdate", &plan.changed)
		if !exists {
			plan.changed = nil
		} else if len(plan.changed) > 0 {
			plan.action = Update
		}
	}
}

// organization resolves a connector's organization_id: a record id in the file,
// an external id in the store, both without the leading model, then the id. Zero
// is the whole tenant; false means reported.
func (p *planner) organization(s *tenantState, r *datafile.Record) (tenant.OrganizationID, bool) {
	ref, f := p.reference(r, "organization_id")
	if ref == "" {
		return tenant.OrganizationID{}, true
	}
	all := spellings(ref, datafile.ModelOrganization)
	for _, spelling := range all {
		for _, o := range p.by.organizations[spelling] {
			if o.tenant == s.id {
				return o.id, !o.id.IsZero()
			}
		}
		if id, ok := s.external[spelling]; ok {
			return id, true
		}
	}
	id, err := tenant.ParseOrganizationID(all[len(all)-1])
	if err != nil {
		p.problem(f.Position, r, "organization_id refers to no known organization")
		return id, false
	}
	if _, ok := s.organizations[id]; ok {
		return id, true
	}
	if s.planned[id] {
		return id, true
	}
	if !p.o.CreateOrganizations {
		p.problem(f.Position, r, "organization %s does not exist in tenant %s; declare it, or use --create-organizations", id, s.id)
		return id, false
	}
	s.planned[id] = true
	s.plan.orgs = append(s.plan.orgs, &organizationPlan{
		action: Create, note: "only referred to",
		next: connector.Organization{ID: id, Name: id.String(), Active: true},
	})
	return id, true
}
