package connector

import (
	"context"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// SecretStatus is what may be told about a secret.
type SecretStatus struct {
	Configured bool
	Version    int64     // 0 when not configured
	UpdatedAt  time.Time // zero when not configured
}

// AssembledConfig is a connector's config, defaults filled in.
type AssembledConfig struct {
	Connector ID
	Kind      providers.Kind
	Params    map[string]any
	// Secrets has every secret of the kind.
	Secrets map[string]SecretStatus
	// Values are the secrets in effect; nil unless they were asked for.
	Values secret.Map
}

// SecretStatuses tells of every secret of a connector's kind whether it is set.
// Of a kind that is not part of this build it knows those that are set.
func (s *Service) SecretStatuses(c *Connector) map[string]SecretStatus {
	out := map[string]SecretStatus{}
	if p, ok := s.o.Kinds.Lookup(string(c.Kind)); ok {
		for _, f := range p.Schema().Secrets {
			out[f.Name] = SecretStatus{}
		}
	}
	for name, info := range c.Secrets {
		out[name] = SecretStatus{Configured: true, Version: info.Version, UpdatedAt: info.UpdatedAt}
	}
	return out
}

// GetConfig returns the assembled config of a connector, of a draft what there is.
// With reveal it has the values of its secrets; that is audited first, and when it
// can't be audited nothing is revealed. Who may reveal is the caller's to check.
func (s *Service) GetConfig(ctx context.Context, sc Scope, id ID, reveal bool) (AssembledConfig, error) {
	if err := s.admit(ctx, sc); err != nil {
		return AssembledConfig{}, err
	}
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return AssembledConfig{}, err
	}
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return AssembledConfig{}, unknownKind(c.Kind)
	}
	out := AssembledConfig{Connector: c.ID, Kind: c.Kind, Secrets: s.SecretStatuses(&c)}
	if !reveal {
		cfg, err := p.Schema().Decode(providers.Input{Params: valuesOf(c.Params)},
			providers.DecodeOptions{Version: c.SchemaVersion, Configured: names(c.Secrets), Partial: true})
		if err != nil {
			return AssembledConfig{}, unfit(err)
		}
		out.Params = cfg.Params
		return out, nil
	}
	if err := s.reveal(ctx, sc, &c); err != nil {
		return AssembledConfig{}, err
	}
	cfg, err := s.configOf(ctx, sc, p, &c, true)
	if err != nil {
		return AssembledConfig{}, unfit(err)
	}
	out.Params, out.Values = cfg.Params, cfg.Secrets
	return out, nil
}

// unfit tells a stored config that does not fit its kind from bad input: there was
// none. The violations say what to correct.
func unfit(err error) error {
	if fault.CodeOf(err) != fault.InvalidArgument {
		return err
	}
	return fault.New(fault.Conflict, "the stored config does not fit its kind: correct it").
		WithViolations(fault.Violations(err)...).WithCause(err)
}

// reveal leaves the audit entry that has to be there before a value leaves.
func (s *Service) reveal(ctx context.Context, sc Scope, c *Connector) error {
	entry := AuditEntry{Action: actionReveal, Target: c.ID.String(), Outcome: outcomeOK}
	for _, name := range names(c.Secrets) {
		entry.Fields = append(entry.Fields, "secrets."+name)
	}
	return s.o.Store.RecordAudit(ctx, sc.Tenant, sc.Actor, sc.Request, entry)
}

// Resolution is what a data plane answers for an organization and category.
type Resolution struct {
	Connector Connector
	Inherited bool              // it is tenant-wide
	Backend   providers.Backend // with its secrets
	Revision  int64             // of the tenant
}

// Resolve answers as the data plane would, for an organization within the scope
// (zero: only tenant-wide defaults answer). The backend holds secrets, so it is
// audited as GetConfig's values are.
// Errors: those of resolution: fault.UnknownCategory, fault.NoDefaultConnector,
// fault.PermissionDenied (a deactivated organization), fault.NeedsReauthorization,
// fault.TenantSuspended whoever asks.
func (s *Service) Resolve(ctx context.Context, sc Scope, org tenant.OrganizationID, category providers.Category) (Resolution, error) {
	snap, err := s.snapshot(ctx, sc, org, category)
	if err == nil {
		err = snap.refusal()
	}
	if err != nil {
		return Resolution{}, err
	}
	c := *snap.Connector
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return Resolution{}, unknownKind(c.Kind)
	}
	if err := s.reveal(ctx, sc, &c); err != nil {
		return Resolution{}, err
	}
	cfg, err := s.configOf(ctx, sc, p, &c, false)
	if err != nil {
		return Resolution{}, unfit(err)
	}
	s.tokens(p, &cfg, &GrantRef{Tenant: sc.Tenant, Connector: c.ID, Pin: c.Pin, GrantVersion: snap.GrantVersion}, true)
	out := Resolution{Connector: c, Inherited: snap.Inherited, Revision: snap.Revision}
	err = s.hook(ctx, sc, &c, "resolve", func(ctx context.Context) (err error) {
		out.Backend, err = p.Backend(ctx, cfg)
		return err
	})
	if err != nil {
		return Resolution{}, err
	}
	return out, nil
}

// snapshot reads who answers for an organization that the scope allows.
func (s *Service) snapshot(ctx context.Context, sc Scope, org tenant.OrganizationID, category providers.Category) (Snapshot, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Snapshot{}, err
	}
	if !s.o.Kinds.HasCategory(category) {
		return Snapshot{}, fault.New(fault.UnknownCategory, "there is no such category")
	}
	// Every organization inherits what no organization's name brings up.
	if !org.IsZero() && !sc.reaches(org) {
		return Snapshot{}, fault.New(fault.NotFound, "there is no such organization")
	}
	return s.o.Store.Tenant(sc.Tenant).Default(ctx, org, category)
}

// refusal is why nothing answers, nil when the connector does. Package resolver
// decides the same of the same facts.
func (s *Snapshot) refusal() error {
	switch {
	case s.Tenant == StatusMissing:
		return fault.New(fault.NotFound, "there is no such tenant")
	case s.Tenant == StatusSuspended:
		return fault.New(fault.TenantSuspended, "the tenant is suspended")
	case s.Organization == OrganizationInactive:
		return fault.New(fault.PermissionDenied, "the organization is deactivated")
	case s.Connector == nil:
		return fault.New(fault.NoDefaultConnector, "no default connector is configured for this category")
	case s.Grant == GrantNeedsReauthorization, s.Connector.State == StateNeedsReauthorization && s.Grant != GrantActive:
		return fault.New(fault.NeedsReauthorization, "the connector needs to be authorized again")
	}
	return nil
}

// Reason says why a connector answers or doesn't.
type Reason string

// The reasons.
const (
	ReasonAnswers     Reason = "answers"
	ReasonInactive    Reason = "inactive"
	ReasonNotDefault  Reason = "not_default"
	ReasonOverridden  Reason = "overridden"            // the organization has a default of its own
	ReasonReauthorize Reason = "needs_reauthorization" // it is the one, and can't
	ReasonBlocked     Reason = "blocked"               // it is the one; the tenant or organization is off
)

// Candidate is a connector that could answer.
type Candidate struct {
	ID           ID
	Name         string
	Kind         providers.Kind
	Organization tenant.OrganizationID // zero: tenant-wide
	State        State
	Active       bool
	Default      bool
	Reason       Reason
}

// Explanation says who answers for an organization and category, and why the
// others don't.
type Explanation struct {
	Organization tenant.OrganizationID
	Category     providers.Category
	Answer       ID    // zero: none
	Problem      error // why nothing answers, a fault; nil when something does
	Candidates   []Candidate
	Revision     int64 // of the tenant, when the answer was read
}

// maxCandidates bounds what Explain lists of one owner.
const maxCandidates = 200

// Explain tells which connector Resolve would take and why not another, without
// secrets. Tenant-wide connectors are beyond a scope that is bound to
// organizations, and not listed, but for the one that answers: apps of the
// organization see that too. Of one owner it lists 200 at most, the one that answers
// among them.
func (s *Service) Explain(ctx context.Context, sc Scope, org tenant.OrganizationID, category providers.Category) (Explanation, error) {
	snap, err := s.snapshot(ctx, sc, org, category)
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{Organization: org, Category: category, Problem: snap.refusal(), Candidates: []Candidate{}, Revision: snap.Revision}
	var chosen ID
	if snap.Connector != nil {
		chosen = snap.Connector.ID
	}
	if out.Problem == nil {
		out.Answer = chosen
	}
	for _, owner := range []tenant.OrganizationID{org, {}} {
		list, err := s.o.Store.Tenant(sc.Tenant).List(ctx, Filter{Category: category, Organization: &owner, Limit: maxCandidates})
		if err != nil {
			return Explanation{}, err
		}
		// Whatever is left out, the one that matters is not.
		if chosen := snap.Connector; chosen != nil && chosen.Organization == owner &&
			!slices.ContainsFunc(list, func(c Connector) bool { return c.ID == chosen.ID }) {
			list = append(list, *chosen)
		}
		for i := range list {
			c := &list[i]
			if c.ID != chosen && !sc.reaches(owner) {
				continue
			}
			out.Candidates = append(out.Candidates, Candidate{ID: c.ID, Name: c.Name, Kind: c.Kind, Organization: c.Organization,
				State: c.State, Active: c.Active, Default: c.Default, Reason: reason(c, chosen, out.Problem)})
		}
		if org.IsZero() {
			break // both are the same
		}
	}
	return out, nil
}

func reason(c *Connector, chosen ID, problem error) Reason {
	switch {
	case c.ID == chosen && problem == nil:
		return ReasonAnswers
	case c.ID == chosen && fault.CodeOf(problem) == fault.NeedsReauthorization:
		return ReasonReauthorize
	case c.ID == chosen:
		return ReasonBlocked
	case !c.Active:
		return ReasonInactive
	case !c.Default:
		return ReasonNotDefault
	}
	return ReasonOverridden
}
