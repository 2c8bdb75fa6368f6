package connector

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Draft is a connector to be created.
type Draft struct {
	Name         string
	Kind         string                // or an alias
	Category     string                // "" is the kind's; another one is an error
	Organization tenant.OrganizationID // zero: the whole tenant
	Params       map[string]any        // by name or alias; nil values count as not given
	Secrets      secret.Map            // unset ones count as not given
	// Active asks for a connector that is active at once: it is tested before it is
	// written. nil is inactive, or what Default needs.
	Active      *bool
	Default     bool // implies Active
	BlockPinned bool
	// Force and Reason stand in for that test, as in ActivateOptions.
	Force  bool
	Reason string
	Once   *RequestKey // nil: each call makes one
}

// Edit is a change of a connector. What is nil or not in a map is kept.
type Edit struct {
	Name *string
	// Kind, Category and Organization never change. Given, they must be what is
	// stored: a body that replaces the whole record names them.
	Kind, Category *string
	Organization   *tenant.OrganizationID
	Params         map[string]any // a nil value clears
	Secrets        secret.Map     // an unset one clears
	// Replace is for PUT: omitted params are cleared, Name is needed. Omitted
	// secrets are kept all the same: nobody who reads them gets their values.
	Replace bool

	// Active, Default and BlockPinned go through the rules of the lifecycle: to
	// become active the connector is tested as it will be, unless it has been; false
	// for Default, or for both, says itself that no connector may answer.
	Active, Default *bool
	BlockPinned     *bool
	Handover        // for Active false on a default
	Force           bool
	Reason          string
}

// maxName bounds a connector's name, in characters.
const maxName = 200

// checkName checks a name for people.
func checkName(name string) (vs []fault.Violation) {
	add := func(code, message string) {
		vs = append(vs, fault.Violation{Pointer: "/name", Code: code, Message: message})
	}
	switch {
	case strings.TrimSpace(name) == "":
		add("required", "is required")
	case utf8.RuneCountInString(name) > maxName:
		add("length", "has at most 200 characters")
	case !printable(name):
		add("format", "must be text on one line")
	}
	return vs
}

// fresh prepares a connector that is not stored, of a draft's kind.
// Errors: fault.InvalidArgument.
func (s *Service) fresh(sc Scope, d Draft) (*work, error) {
	bad := func(pointer, code, message string) error {
		return fault.New(fault.InvalidArgument, "the connector has a problem").
			WithViolations(fault.Violation{Pointer: pointer, Code: code, Message: message})
	}
	p, ok := s.o.Kinds.Lookup(d.Kind)
	switch {
	case d.Kind == "":
		return nil, bad("/kind", "required", "is required")
	case !ok:
		message := "is unknown"
		if near := s.o.Kinds.Suggest(d.Kind); near != "" {
			message += "; did you mean " + near + "?"
		}
		return nil, bad("/kind", "unknown", message)
	}
	schema := p.Schema()
	if d.Category != "" && d.Category != string(schema.Category) {
		return nil, bad("/category", "conflict", "is not the kind's, which is "+string(schema.Category))
	}
	return &work{s: s, sc: sc, provider: p, fresh: true, next: Connector{
		ID: NewID(), Name: d.Name, Category: schema.Category, Kind: schema.Kind, SchemaVersion: schema.Version,
		Organization: d.Organization, BlockPinned: d.BlockPinned,
		Params: map[string]Param{}, Secrets: map[string]SecretInfo{},
	}}, nil
}

// organization checks that a new connector's owner exists within the scope.
func (s *Service) organization(ctx context.Context, sc Scope, org tenant.OrganizationID) error {
	if org.IsZero() {
		if !sc.AllOrganizations {
			return fault.New(fault.PermissionDenied, "a connector of the whole tenant is made by who reaches all its organizations")
		}
		return nil
	}
	if !sc.reaches(org) {
		return noOrganization()
	}
	_, err := findOrganization(ctx, s.o.Store.Tenant(sc.Tenant), org)
	return err
}

// Create makes a connector, inactive unless the draft asks otherwise. An inactive
// one may lack what is required: it is a draft then, which can't be activated.
// Errors: fault.Conflict when it is to be active and its test fails, and while the
// request of Once is under way; fault.InvalidArgument when that stands for another.
func (s *Service) Create(ctx context.Context, sc Scope, d Draft) (Written, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Written{}, err
	}
	return s.once(ctx, sc, d.Once, func(claim *Claim) (Written, error) { return s.create(ctx, sc, d, claim) })
}

func (s *Service) create(ctx context.Context, sc Scope, d Draft, claim *Claim) (Written, error) {
	if err := s.organization(ctx, sc, d.Organization); err != nil {
		return Written{}, s.refused(ctx, sc, actionCreate, d.Organization.String(), nil, err)
	}
	w, err := s.fresh(sc, d)
	if err != nil {
		return Written{}, err
	}
	w.claim = claim
	vs := checkName(d.Name)
	if d.Default && d.Active != nil && !*d.Active {
		vs = append(vs, fault.Violation{Pointer: "/is_default", Code: "conflict", Message: "a default is active"})
	}
	// Everything that is wrong is said at once.
	in := input{params: d.Params, secrets: d.Secrets, replace: true}
	if err := join(vs, w.edit(ctx, in)); err != nil {
		return Written{}, err
	}
	v := w.verb(actionCreate)
	v.def = d.Default
	v.active = d.Default || d.Active != nil && *d.Active
	v.test, v.force, v.reason = true, d.Force, d.Reason
	return w.commit(ctx, v)
}

// join adds violations to an error's own.
func join(vs []fault.Violation, err error) error {
	if len(vs) == 0 || err != nil && fault.CodeOf(err) != fault.InvalidArgument {
		return err
	}
	message := "the connector has a problem"
	if err != nil {
		message = "the connector has several problems"
	}
	return fault.New(fault.InvalidArgument, message).WithViolations(append(vs, fault.Violations(err)...)...)
}

// Update changes a connector.
//
// A changed param that binds secrets (where they are sent) voids those that don't
// come along: on an active connector that is fault.SecretRequired, on an inactive
// one they are removed and named. A changed param or secret that affects the
// connection makes the connector untested. A grant that was given to another
// OAuth2 client is forgotten.
// Errors: fault.PreconditionRequired without a version, fault.StaleVersion,
// fault.Conflict by the rules of the lifecycle.
func (s *Service) Update(ctx context.Context, sc Scope, id ID, version int64, e Edit) (Written, error) {
	if err := demand(version); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, version, false, func(c Connector) (Written, error) {
		return s.update(ctx, sc, c, actionUpdate, e)
	})
}

func (s *Service) update(ctx context.Context, sc Scope, c Connector, action string, e Edit) (Written, error) {
	w := s.open(sc, c)
	vs := e.check(&c, s.o.Kinds)
	if e.Name != nil {
		w.next.Name = *e.Name
	}
	if e.BlockPinned != nil {
		w.next.BlockPinned = *e.BlockPinned
	}
	if len(e.Params) > 0 || len(e.Secrets) > 0 || e.Replace {
		if err := join(vs, w.edit(ctx, input{params: e.Params, secrets: e.Secrets, replace: e.Replace})); err != nil {
			return Written{}, s.refused(ctx, sc, action, c.ID.String(), touched(e), err)
		}
	} else if err := join(vs, nil); err != nil {
		return Written{}, err
	}
	v := w.verb(action)
	v.handover, v.test, v.force, v.reason = e.Handover, true, e.Force, e.Reason
	if e.Active != nil {
		v.active = *e.Active
	}
	switch {
	case e.Default != nil:
		v.def = *e.Default
		if !v.def && v.handover.Replacement.IsZero() {
			v.handover.AllowNoDefault = true
		}
	case !v.active:
		v.def = false
	}
	return w.commit(ctx, v)
}

// touched names what an edit that was refused wanted to change.
func touched(e Edit) (fields []string) {
	for _, name := range names(e.Params) {
		if len(name) <= 64 && printable(name) {
			fields = append(fields, "params."+name)
		}
	}
	for _, name := range names(e.Secrets) {
		if len(name) <= 64 && printable(name) {
			fields = append(fields, "secrets."+name)
		}
	}
	return fields
}

// check finds what an edit may never say.
func (e *Edit) check(c *Connector, kinds *providers.Registry) (vs []fault.Violation) {
	never := func(pointer string, same bool) {
		if !same {
			vs = append(vs, fault.Violation{Pointer: pointer, Code: "immutable", Message: "never changes"})
		}
	}
	if e.Kind != nil {
		p, ok := kinds.Lookup(*e.Kind)
		never("/kind", *e.Kind == string(c.Kind) || ok && p.Schema().Kind == c.Kind)
	}
	if e.Category != nil {
		never("/category", *e.Category == string(c.Category))
	}
	if e.Organization != nil {
		never("/organization_id", *e.Organization == c.Organization)
	}
	switch {
	case e.Name != nil:
		vs = append(vs, checkName(*e.Name)...)
	case e.Replace:
		vs = append(vs, checkName("")...)
	}
	if e.Default != nil && *e.Default && e.Active != nil && !*e.Active {
		vs = append(vs, fault.Violation{Pointer: "/is_default", Code: "conflict", Message: "a default is active"})
	}
	return vs
}

// ImportConfig takes a vendor's own file, or nested keys, as its kind reads it,
// and changes the connector as Update does. What the file does not say, or says as
// null, is kept; text is read as the type that the kind wants. A grant is no part
// of a config and stays.
// Errors: as Update's, fault.InvalidArgument for a file that the kind can't read.
func (s *Service) ImportConfig(ctx context.Context, sc Scope, id ID, version int64, raw map[string]any) (Written, error) {
	if err := demand(version); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, version, false, func(c Connector) (Written, error) {
		p, ok := s.o.Kinds.Lookup(string(c.Kind))
		if !ok {
			return Written{}, unknownKind(c.Kind)
		}
		var flat map[string]any
		err := s.hook(ctx, sc, &c, "import", func(ctx context.Context) (err error) {
			flat, err = p.ImportConfig(ctx, raw)
			if err != nil && fault.Message(err) == "" {
				err = fault.New(fault.InvalidArgument, "this can't be read as the kind's config")
			}
			return err
		})
		if err != nil {
			return Written{}, err
		}
		said := make(map[string]any, len(flat))
		for name, v := range flat {
			if text, ok := v.(string); ok {
				v = providers.TextValue(text)
			}
			if v != nil {
				said[name] = v
			}
		}
		in, err := p.Schema().Split(said)
		if err != nil {
			return Written{}, err
		}
		return s.update(ctx, sc, c, actionImport, Edit{Params: in.Params, Secrets: in.Secrets})
	})
}

// CloneOptions say what becomes of a copy.
type CloneOptions struct {
	Name         string
	Organization tenant.OrganizationID // zero: the whole tenant
	Once         *RequestKey           // nil: each call makes one
}

// Clone copies a connector under another name, secrets included, for the same or
// another organization within the scope. The copy is inactive and untested, and
// has no grant: a consent is given to one connector.
func (s *Service) Clone(ctx context.Context, sc Scope, id ID, o CloneOptions) (Written, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Written{}, err
	}
	return s.once(ctx, sc, o.Once, func(claim *Claim) (Written, error) { return s.clone(ctx, sc, id, o.Name, o.Organization, claim) })
}

func (s *Service) clone(ctx context.Context, sc Scope, id ID, name string, org tenant.OrganizationID, claim *Claim) (Written, error) {
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return Written{}, err
	}
	if err := s.organization(ctx, sc, org); err != nil {
		return Written{}, s.refused(ctx, sc, actionCreate, id.String(), nil, err)
	}
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return Written{}, unknownKind(c.Kind)
	}
	b, err := s.bundleOf(ctx, sc, &c)
	if err != nil {
		return Written{}, err
	}
	in, err := p.Schema().Upgrade(c.SchemaVersion, providers.Input{Params: valuesOf(c.Params), Secrets: b.Values})
	if err != nil {
		return Written{}, err
	}
	w, err := s.fresh(sc, Draft{Name: name, Kind: string(c.Kind), Organization: org, BlockPinned: c.BlockPinned})
	if err != nil {
		return Written{}, err
	}
	w.claim = claim
	if err := join(checkName(name), w.edit(ctx, input{params: in.Params, secrets: in.Secrets, replace: true})); err != nil {
		return Written{}, err
	}
	return w.commit(ctx, w.verb(actionCreate))
}
