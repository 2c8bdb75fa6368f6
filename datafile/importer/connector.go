package importer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// lint checks what can be checked of a connector whose tenant is unknown.
func (p *planner) lint(ctx context.Context, c *connectorRecord) {
	p.scalars(c.Record)
	provider := p.kind(c)
	if provider == nil {
		return
	}
	if in, ok := p.content(ctx, c, provider); ok {
		p.complain(c, in, provider.Schema(), nil)
	}
}

// scalars is what a connector's record says besides its kind, place and config;
// nil and "" where it says nothing.
type scalars struct {
	name                           string
	isDefault, active, blockPinned *bool
	defaultAt, activeAt            datafile.Position
}

func (p *planner) scalars(r *datafile.Record) scalars {
	s := scalars{name: p.name(r, "name")}
	s.isDefault, s.defaultAt = p.boolean(r, "is_default")
	s.active, s.activeAt = p.boolean(r, "active", "is_enabled")
	s.blockPinned, _ = p.boolean(r, "block_pinned")
	if s.isDefault != nil && *s.isDefault && s.active != nil && !*s.active {
		p.problem(s.defaultAt, r, "a default must be active")
	}
	return s
}

// kind finds the provider and checks the category against it.
func (p *planner) kind(c *connectorRecord) providers.Provider {
	if c.partial != nil {
		provider, ok := p.im.Kinds.Lookup(string(c.partial.Kind))
		if !ok {
			p.problem(c.rows[0].Position, c.rows[0].Record, "the stored connector's kind is not known here")
			return nil
		}
		return provider
	}
	category, categoryAt := p.text(c.Record, "category")
	name, at := p.text(c.Record, "kind", "provider_type")
	declared := category == "" || p.im.Kinds.HasCategory(providers.Category(category))
	if !declared {
		var names []string
		for _, i := range p.im.Kinds.Categories() {
			names = append(names, string(i.Category))
		}
		p.problem(categoryAt, c.Record, "unknown category %q%s", category, didYouMean(category, names))
	}
	if name == "" {
		p.problem(at, c.Record, "kind is missing")
		return nil
	}
	provider, ok := p.im.Kinds.Lookup(name)
	if !ok {
		var names []string
		for _, k := range p.im.Kinds.Kinds() {
			names = append(names, string(k.Schema().Kind))
		}
		p.problem(at, c.Record, "unknown kind %q%s", name, didYouMean(name, names))
		return nil
	}
	if want := provider.Schema().Category; category != "" && declared && category != string(want) {
		p.problem(categoryAt, c.Record, "kind %s is of category %s, not %s", provider.Schema().Kind, want, category)
	}
	return provider
}

// content is what the file says a connector holds.
type content struct {
	input  providers.Input  // text from outside as providers.TextValue
	places map[string]place // of each name, canonical or not
	// whole: this is all that the connector holds, but for what the API set. Rows
	// of a connector that only the store has, and a record with neither config nor
	// rows, say nothing of what they don't name.
	whole bool
	// creates holds the names that only rows under noupdate give: they never
	// change what is stored.
	creates map[string]bool
}

// content reads config and rows into params and secrets, not yet decoded.
func (p *planner) content(ctx context.Context, c *connectorRecord, provider providers.Provider) (content, bool) {
	out := content{places: map[string]place{}, creates: map[string]bool{}, whole: c.partial == nil && len(c.rows) > 0}
	flat := map[string]any{}
	ok := true
	if f, has := p.field(c.Record, "config"); has && !(f.Form == datafile.Text && f.Text == "") {
		m, isMap := f.Literal.(map[string]any)
		if !isMap {
			p.problem(f.Position, c.Record, "config must be a dict, written as eval")
			return out, false
		}
		out.whole = c.partial == nil
		for _, k := range slices.Sorted(maps.Keys(m)) {
			at, known := f.Keys[k]
			if !known {
				at = f.Position
			}
			v, good := p.expandAll(c.Record, at, m[k])
			flat[k], out.places[k], ok = v, place{at, c.Record}, ok && good
		}
	}
	rows, good := p.rows(ctx, c, provider, &out, true, false)
	if !good {
		return out, false
	}
	schema := provider.Schema()
	if slices.ContainsFunc(c.rows, func(r *paramRecord) bool { return r.NoUpdate }) {
		updates, _ := p.rows(ctx, c, provider, &out, false)
		for k := range rows {
			_, inConfig := flat[k]
			if _, update := updates[k]; !update && !inConfig {
				out.creates[schema.Canonical(k)] = true
			}
		}
	}
	for k, v := range rows {
		if s, isText := v.(string); isText {
			v = providers.TextValue(s)
		}
		flat[k] = v
		if _, known := out.places[k]; !known {
			out.places[k] = place{c.rows[0].Position, c.rows[0].Record}
		}
	}
	maps.DeleteFunc(flat, func(_ string, v any) bool { return v == nil })
	in, err := schema.Split(flat)
	if err != nil {
		p.problem(c.Position, c.Record, "%s", publicMessage(err, "config can't be read"))
		return out, false
	}
	out.input = in
	for k := range flat {
		if name := schema.Canonical(k); name != k {
			if _, known := out.places[name]; !known {
				out.places[name] = out.places[k]
			}
		}
	}
	return out, ok
}

// rows reads the rows of the given kinds of noupdate as the kind's config; false
// means reported.
func (p *planner) rows(ctx context.Context, c *connectorRecord, provider providers.Provider, out *content, noUpdate ...bool) (map[string]any, bool) {
	if len(c.rows) == 0 {
		return nil, true
	}
	raw, ok := p.nested(c, out, noUpdate...)
	rows, err := provider.ImportConfig(ctx, raw)
	if err == nil {
		return rows, ok
	}
	vs := fault.Violations(err)
	for _, v := range vs {
		p.violation(c, *out, v)
	}
	if len(vs) == 0 {
		p.problem(c.rows[0].Position, c.rows[0].Record, "%s", publicMessage(err, "the rows can't be read as this kind's config"))
	}
	return nil, false
}

// publicMessage is err's public message, or the given one.
func publicMessage(err error, otherwise string) string {
	if m := fault.Message(err); m != "" {
		return m
	}
	return otherwise
}

// violation reports a schema's complaint at the line of what it is about.
func (p *planner) violation(c *connectorRecord, in content, v fault.Violation) {
	parts := strings.Split(strings.TrimPrefix(v.Pointer, "/"), "/")
	at, record := c.Position, c.Record
	if len(c.rows) > 0 {
		at, record = c.rows[0].Position, c.rows[0].Record
	}
	if f, ok := p.field(c.Record, "config"); ok {
		at, record = f.Position, c.Record
	}
	message := v.Message
	if len(parts) > 1 {
		unescape := strings.NewReplacer("~1", "/", "~0", "~")
		name := unescape.Replace(parts[1])
		if found, ok := in.places[name]; ok {
			at, record = found.at, found.record
		}
		path := unescape.Replace(strings.Join(parts[1:], "/"))
		message = fmt.Sprintf("%s %q: %s", strings.TrimSuffix(parts[0], "s"), path, v.Message)
	}
	p.problem(at, record, "%s", message)
}

// decode checks an input and returns what the schema complains about.
func decode(schema *providers.Schema, in providers.Input, configured []string) (providers.Config, []fault.Violation, error) {
	cfg, err := schema.Decode(in, providers.DecodeOptions{Configured: configured})
	switch vs := fault.Violations(err); {
	case err == nil:
		return cfg, nil, nil
	case !errors.Is(err, fault.InvalidArgument):
		return cfg, nil, err
	case len(vs) > 0:
		return cfg, vs, nil
	}
	return cfg, []fault.Violation{{Message: fault.Message(err)}}, nil
}

// planConnector says what happens to one connector; nil means reported.
func (p *planner) planConnector(ctx context.Context, s *tenantState, c *connectorRecord) (*connectorPlan, error) {
	provider := p.kind(c)
	org, orgOK := p.organization(s, c.Record)
	says := p.scalars(c.Record)
	if provider == nil {
		return nil, nil
	}
	in, ok := p.content(ctx, c, provider)
	if !ok || !orgOK {
		if ok {
			// Still say what is wrong with the params, all at once.
			p.complain(c, in, provider.Schema(), nil)
		}
		return nil, nil
	}
	schema := provider.Schema()
	plan := &connectorPlan{tenant: s.id, label: c.ID, record: c.Record}
	plan.claim(says.isDefault, says.defaultAt, says.activeAt)
	stored, deleted := p.find(s, c)
	if stored == nil && deleted != nil && !p.o.Restore {
		p.complain(c, in, schema, deleted)
		plan.action, plan.next, plan.stored = Skip, *deleted, deleted
		plan.note = "deleted; --restore revives it"
		return plan, nil
	}
	restoring := stored == nil && deleted != nil
	if restoring {
		stored = deleted
	}
	if stored == nil {
		plan.next = connector.Connector{
			ID: p.im.NewID(), ExternalID: c.ID, Name: c.ID, Category: schema.Category, Kind: schema.Kind,
			SchemaVersion: schema.Version, Organization: org, State: connector.StateUntested, Active: true,
		}
	} else {
		plan.stored, plan.next = stored, *stored
		plan.next.Params, plan.next.Secrets = maps.Clone(stored.Params), maps.Clone(stored.Secrets)
		if c.partial == nil && !p.immutable(c, stored, schema, org == stored.Organization) {
			return nil, nil
		}
	}
	if stored != nil && !restoring && c.NoUpdate {
		p.complain(c, in, schema, stored)
		plan.action, plan.note = Unchanged, noteNoUpdate
		return plan, nil
	}
	next := &plan.next
	if c.partial == nil {
		set(&next.Name, says.name, says.name != "", "name", &plan.changed)
		if says.active != nil {
			set(&next.Active, *says.active, true, "active", &plan.changed)
		}
		if says.isDefault != nil {
			set(&next.Default, *says.isDefault, true, "default", &plan.changed)
			if *says.isDefault {
				set(&next.Active, true, true, "active", &plan.changed)
			}
		}
		if says.blockPinned != nil {
			set(&next.BlockPinned, *says.blockPinned, true, "block_pinned", &plan.changed)
		}
		set(&next.NoUpdate, c.NoUpdate, true, "noupdate", &plan.changed)
	}
	if restoring {
		next.DeletedAt = time.Time{}
		next.State = connector.StateUntested
		// Another one may answer by now; only the file makes it the default again.
		next.Default = plan.claims
	}
	if err := p.merge(ctx, s, c, in, provider, plan); err != nil {
		return nil, err
	}
	switch {
	case len(plan.conflicts) > 0:
		plan.action = Conflict
	case stored == nil:
		plan.action = Create
	case restoring:
		plan.action = Restore
	case len(plan.changed) > 0 || len(plan.agreed) > 0:
		plan.action = Update
	default:
		plan.action = Unchanged
	}
	return plan, nil
}

// complain reports what is wrong with the params of a record that is not
// written: a bad file is bad whatever is stored. Of one that gives no whole there
// is nothing to say without what it leaves alone.
func (p *planner) complain(c *connectorRecord, in content, schema *providers.Schema, stored *connector.Connector) {
	if !in.whole {
		return
	}
	var configured []string
	if stored != nil {
		configured = slices.Sorted(maps.Keys(stored.Secrets))
	}
	_, vs, err := decode(schema, in.input, configured)
	if err == nil {
		for _, v := range vs {
			p.violation(c, in, v)
		}
	}
}

// find looks a connector up by external id; a record id that is a connector's
// own id finds one that was made by the API (an export names it so).
func (p *planner) find(s *tenantState, c *connectorRecord) (living, deleted *connector.Connector) {
	if c.partial != nil {
		return c.partial, nil
	}
	if x := s.living[c.ID]; x != nil {
		return x, nil
	}
	if x := s.byID[c.ID]; x != nil && x.ExternalID == "" {
		return x, nil
	}
	return nil, s.deleted[c.ID]
}

// immutable reports what the file would have to change of what never changes.
func (p *planner) immutable(c *connectorRecord, stored *connector.Connector, schema *providers.Schema, sameOrganization bool) bool {
	if stored.Kind != schema.Kind {
		_, at := p.text(c.Record, "kind", "provider_type")
		p.problem(at, c.Record, "the stored connector is of kind %s, and a kind never changes; use another record id", stored.Kind)
		return false
	}
	if !sameOrganization {
		_, f := p.reference(c.Record, "organization_id")
		p.problem(f.Position, c.Record, "the stored connector belongs to another organization, and that never changes; use another record id")
		return false
	}
	return true
}
