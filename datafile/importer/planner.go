package importer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// planner makes one plan. Everything that is wrong is collected, so that the
// operator sees all of it at once.
type planner struct {
	im       *Importer
	o        Options
	file     *datafile.File
	expand   *expander
	problems datafile.Problems

	tenantRecords []*tenantRecord
	organizations []*organizationRecord
	connectors    []*connectorRecord
	params        []*paramRecord
	by            index
	states        map[tenant.ID]*tenantState
	stored        []connector.Tenant // every tenant of the store, once asked for
	storedKnown   bool
}

// index finds records of the file by what others call them: a file of a hundred
// thousand records is not searched for each of them.
type index struct {
	tenants         map[string]*tenantRecord // by record id
	tenantOf        map[tenant.ID]*tenantRecord
	organizations   map[string][]*organizationRecord // by record id
	organizationIDs map[string][]*organizationRecord // by the organization's own id
	inTenant        map[tenant.ID][]*organizationRecord
	connectors      map[string][]*connectorRecord // by record id; those of the file
	partial         map[connector.ID]*connectorRecord
}

// add is m[k] = append(m[k], v).
func add[K comparable, V any](m map[K][]V, k K, v V) { m[k] = append(m[k], v) }

type tenantRecord struct {
	*datafile.Record
	id tenant.ID
}

type organizationRecord struct {
	*datafile.Record
	id     tenant.OrganizationID
	tenant tenant.ID
}

type connectorRecord struct {
	*datafile.Record
	tenant tenant.ID
	rows   []*paramRecord
	// partial: only rows are in the file, the connector itself is stored.
	partial *connector.Connector
}

type paramRecord struct {
	*datafile.Record
	sequence int64
	order    int
}

// tenantState is one tenant as stored, and what the file says of it.
type tenantState struct {
	id            tenant.ID
	stored        connector.Tenant
	exists        bool
	record        *tenantRecord
	organizations map[tenant.OrganizationID]connector.Organization
	external      map[string]tenant.OrganizationID // of stored organizations, by external id
	planned       map[tenant.OrganizationID]bool   // organizations that have a plan
	living        map[string]*connector.Connector  // by external id
	byID          map[string]*connector.Connector  // the living, by their own id
	deleted       map[string]*connector.Connector  // the youngest of each external id
	plan          *tenantPlan
	missing       bool // it does not exist, and nothing creates it
}

// Plan reads what is stored and says what importing f would do. It writes
// nothing. Errors: [datafile.Problems], all at once; what the stores return.
func (im *Importer) Plan(ctx context.Context, f *datafile.File, o Options) (*Plan, error) {
	return im.plan(ctx, f, o, newExpander(im))
}

func (im *Importer) plan(ctx context.Context, f *datafile.File, o Options, e *expander) (*Plan, error) {
	if o.Actor == "" {
		o.Actor = "cli:import"
	}
	p := &planner{im: im, o: o, file: f, expand: e, states: map[tenant.ID]*tenantState{}, by: index{
		tenants: map[string]*tenantRecord{}, tenantOf: map[tenant.ID]*tenantRecord{},
		organizations: map[string][]*organizationRecord{}, organizationIDs: map[string][]*organizationRecord{},
		inTenant:   map[tenant.ID][]*organizationRecord{},
		connectors: map[string][]*connectorRecord{}, partial: map[connector.ID]*connectorRecord{},
	}}
	p.sortRecords()
	if err := p.assignTenants(ctx); err != nil {
		return nil, err
	}
	p.duplicates()
	for _, id := range p.tenantIDs() {
		if err := p.load(ctx, id); err != nil {
			return nil, err
		}
	}
	out := &Plan{file: f, options: o, expand: e}
	for _, id := range p.tenantIDs() {
		s := p.states[id]
		p.planTenant(s)
		p.planOrganizations(s)
		out.tenants = append(out.tenants, s.plan)
	}
	p.lintOwners()
	p.missingTenants()
	p.attachRows()
	for _, c := range p.connectors {
		if c.tenant.IsZero() {
			p.lint(ctx, c)
			continue
		}
		cp, err := p.planConnector(ctx, p.states[c.tenant], c)
		if err != nil {
			return nil, err
		}
		if cp != nil {
			out.connectors = append(out.connectors, cp)
		}
	}
	p.defaults(out)
	for _, t := range out.tenants {
		slices.SortStableFunc(t.orgs, func(a, b *organizationPlan) int { return cmp.Compare(a.next.ID.String(), b.next.ID.String()) })
	}
	if len(p.problems) > 0 {
		return nil, p.problems.Sort()
	}
	return out, nil
}

// sortRecords sorts the records by model and checks their vocabulary.
func (p *planner) sortRecords() {
	for i := range p.file.Records {
		r := &p.file.Records[i]
		if !p.vocabulary(r) {
			continue
		}
		switch r.Model {
		case datafile.ModelTenant:
			t := &tenantRecord{Record: r}
			text, at := p.ownID(r)
			id, err := tenant.ParseID(text)
			if err != nil {
				p.problem(at, r, "the tenant's id: %s; give it a key", fault.Message(err))
			}
			t.id = id
			p.tenantRecords = append(p.tenantRecords, t)
			if p.by.tenants[r.ID] == nil {
				p.by.tenants[r.ID] = t
			}
			if p.by.tenantOf[id] == nil {
				p.by.tenantOf[id] = t
			}
		case datafile.ModelOrganization:
			o := &organizationRecord{Record: r}
			text, at := p.ownID(r)
			id, err := tenant.ParseOrganizationID(text)
			if err != nil {
				p.problem(at, r, "the organization's id: %s; give it a key", fault.Message(err))
			}
			o.id = id
			p.organizations = append(p.organizations, o)
			add(p.by.organizations, r.ID, o)
			add(p.by.organizationIDs, id.String(), o)
		case datafile.ModelConnector:
			c := &connectorRecord{Record: r}
			p.connectors = append(p.connectors, c)
			add(p.by.connectors, r.ID, c)
		case datafile.ModelParam:
			p.params = append(p.params, &paramRecord{Record: r, order: i})
		}
	}
}

func (p *planner) ownID(r *datafile.Record) (string, datafile.Position) {
	if key, at := p.text(r, "key"); key != "" {
		return key, at
	}
	return lastSegment(r.ID), r.Position
}

// assignTenants finds the tenant of each record, by the order of rules that the
// contract gives: its own field, its organization's, --tenant, the file's only
// tenant, the default.
func (p *planner) assignTenants(ctx context.Context) error {
	for _, o := range p.organizations {
		id, err := p.ownTenant(ctx, o.Record)
		if err != nil {
			return err
		}
		o.tenant = p.check(o.Record, id)
		add(p.by.inTenant, o.tenant, o)
	}
	for _, c := range p.connectors {
		id, err := p.ownTenant(ctx, c.Record)
		if err != nil {
			return err
		}
		if id == (found{}) {
			id = p.organizationTenant(c.Record)
		}
		c.tenant = p.check(c.Record, id)
	}
	return nil
}

// found is a tenant that a record names, or that it names one wrongly.
type found struct {
	id  tenant.ID
	bad bool
	at  datafile.Position
}

func (p *planner) ownTenant(ctx context.Context, r *datafile.Record) (found, error) {
	ref, f := p.reference(r, "tenant_id")
	if ref == "" {
		return found{}, nil
	}
	for _, s := range spellings(ref, datafile.ModelTenant) {
		if t := p.by.tenants[s]; t != nil {
			return found{t.id, t.id.IsZero(), f.Position}, nil
		}
		if f.Form == datafile.Ref {
			ts, err := p.storedTenants(ctx)
			if err != nil {
				return found{}, err
			}
			for _, t := range ts {
				if t.ExternalID == s {
					return found{t.ID, false, f.Position}, nil
				}
			}
		}
	}
	all := spellings(ref, datafile.ModelTenant)
	id, err := tenant.ParseID(all[len(all)-1])
	if err != nil {
		p.problem(f.Position, r, "tenant_id refers to no known tenant")
		return found{bad: true, at: f.Position}, nil //nolint:nilerr // reported just now
	}
	return found{id, false, f.Position}, nil
}

// storedTenants lists the tenants that a ref may name. Where the tenant is given,
// no other one is looked at: what a caller of one tenant is told must not depend
// on what others are called.
func (p *planner) storedTenants(ctx context.Context) ([]connector.Tenant, error) {
	if p.storedKnown {
		return p.stored, nil
	}
	var err error
	if p.o.Tenant.IsZero() {
		p.stored, err = p.im.Store.Tenants(ctx, connector.TenantFilter{})
	} else {
		var t connector.Tenant
		if t, err = p.im.Store.Tenant(p.o.Tenant).Get(ctx); err == nil {
			p.stored = []connector.Tenant{t}
		} else if errors.Is(err, fault.NotFound) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	p.storedKnown = true
	return p.stored, nil
}

// organizationTenant is the tenant of the organization record that r refers to,
// when the file holds exactly one that fits.
func (p *planner) organizationTenant(r *datafile.Record) found {
	ref, f := p.reference(r, "organization_id")
	if ref == "" {
		return found{}
	}
	for _, named := range []map[string][]*organizationRecord{p.by.organizations, p.by.organizationIDs} {
		for _, s := range spellings(ref, datafile.ModelOrganization) {
			var tenants []tenant.ID
			for _, o := range named[s] {
				if !slices.Contains(tenants, o.tenant) {
					tenants = append(tenants, o.tenant)
				}
				if len(tenants) > 1 {
					break
				}
			}
			if len(tenants) == 1 {
				// A zero tenant here was reported where the organization stands.
				return found{tenants[0], tenants[0].IsZero(), f.Position}
			}
		}
	}
	return found{}
}

// check applies --tenant and the fallbacks; zero means reported.
func (p *planner) check(r *datafile.Record, f found) tenant.ID {
	switch {
	case f.bad:
		return tenant.ID{}
	case !f.id.IsZero() && !p.o.Tenant.IsZero() && f.id != p.o.Tenant:
		p.problem(f.at, r, "the record belongs to tenant %s, but --tenant says %s", f.id, p.o.Tenant)
		return tenant.ID{}
	case !f.id.IsZero():
		return f.id
	case !p.o.Tenant.IsZero():
		return p.o.Tenant
	case len(p.tenantRecords) == 1:
		return p.tenantRecords[0].id
	case !p.o.DefaultTenant.IsZero():
		return p.o.DefaultTenant
	}
	p.problem(r.Position, r, "the record names no tenant; give it a tenant_id, or use --tenant")
	return tenant.ID{}
}

// duplicates reports record ids, keys and tenants that stand in the file twice.
func (p *planner) duplicates() {
	type key struct {
		tenant tenant.ID
		model  string
		id     string
	}
	first := map[key]*datafile.Record{}
	once := func(r *datafile.Record, t tenant.ID, model, id, what string) {
		k := key{t, model, id}
		if one, dup := first[k]; dup && id != "" {
			p.problem(r.Position, r, "%s is given twice, first at %s", what, p.where(one, one.Position, r))
			return
		}
		first[k] = r
	}
	for _, t := range p.tenantRecords {
		once(t.Record, tenant.ID{}, "", t.ID, "this record id")
		once(t.Record, tenant.ID{}, "tenant", t.id.String(), "this tenant")
		if !t.id.IsZero() && !p.o.Tenant.IsZero() && t.id != p.o.Tenant {
			p.problem(t.Position, t.Record, "the record belongs to tenant %s, but --tenant says %s", t.id, p.o.Tenant)
		}
	}
	for _, o := range p.organizations {
		once(o.Record, o.tenant, o.Model, o.ID, "this record id")
		once(o.Record, o.tenant, "organization", o.id.String(), "this organization")
	}
	for _, c := range p.connectors {
		once(c.Record, c.tenant, c.Model, c.ID, "this record id")
	}
	for _, r := range p.params {
		once(r.Record, tenant.ID{}, r.Model, r.ID, "this record id")
	}
}

// tenantIDs lists the tenants that the file touches, in id order.
func (p *planner) tenantIDs() []tenant.ID {
	var ids []tenant.ID
	for _, t := range p.tenantRecords {
		ids = append(ids, t.id)
	}
	for _, o := range p.organizations {
		ids = append(ids, o.tenant)
	}
	for _, c := range p.connectors {
		ids = append(ids, c.tenant)
	}
	if len(p.params) > 0 {
		// Rows may be for a stored connector of the tenant that is meant anyway.
		ids = append(ids, p.impliedTenant())
	}
	// Another tenant than the given one is an error already, and none of its
	// records is read.
	ids = slices.DeleteFunc(ids, func(id tenant.ID) bool {
		return id.IsZero() || !p.o.Tenant.IsZero() && id != p.o.Tenant
	})
	slices.SortFunc(ids, func(a, b tenant.ID) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(ids)
}

func (p *planner) impliedTenant() tenant.ID {
	switch {
	case !p.o.Tenant.IsZero():
		return p.o.Tenant
	case len(p.tenantRecords) == 1:
		return p.tenantRecords[0].id
	case len(p.tenantRecords) == 0 && len(p.connectors) == 0 && len(p.organizations) == 0:
		return p.o.DefaultTenant
	}
	return tenant.ID{}
}

// load reads one tenant's present state.
func (p *planner) load(ctx context.Context, id tenant.ID) error {
	s := &tenantState{
		id:            id,
		organizations: map[tenant.OrganizationID]connector.Organization{},
		external:      map[string]tenant.OrganizationID{},
		planned:       map[tenant.OrganizationID]bool{},
		living:        map[string]*connector.Connector{},
		byID:          map[string]*connector.Connector{},
		deleted:       map[string]*connector.Connector{},
	}
	p.states[id] = s
	s.record = p.by.tenantOf[id]
	reader := p.im.Store.Tenant(id)
	stored, err := reader.Get(ctx)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read tenant %s: %w", id, err)
	}
	s.stored, s.exists = stored, true
	orgs, err := reader.Organizations(ctx, connector.OrganizationFilter{})
	if err != nil {
		return fmt.Errorf("read organizations of %s: %w", id, err)
	}
	for _, o := range orgs {
		s.organizations[o.ID] = o
		if o.ExternalID != "" {
			s.external[o.ExternalID] = o.ID
		}
	}
	list, err := reader.List(ctx, connector.Filter{IncludeDeleted: true})
	if err != nil {
		return fmt.Errorf("read connectors of %s: %w", id, err)
	}
	for i := range list {
		c := &list[i]
		switch {
		case c.DeletedAt.IsZero():
			s.byID[c.ID.String()] = c
			if c.ExternalID != "" {
				s.living[c.ExternalID] = c
			}
		case c.ExternalID != "":
			if old := s.deleted[c.ExternalID]; old == nil || old.DeletedAt.Before(c.DeletedAt) {
				s.deleted[c.ExternalID] = c
			}
		}
	}
	return nil
}
