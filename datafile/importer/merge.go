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
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/vault"
)

// outcome is what a three-way merge of one value decides.
type outcome int

const (
	same     outcome = iota // file and store agree
	keep                    // the store changed since the last import, the file did not
	take                    // the file changed, the store did not
	conflict                // both changed
)

// decide merges one value: base is what the last import brought. A value that
// is absent compares equal only to an absent one.
func decide(fileIsStored, fileIsBase, storedIsBase bool) outcome {
	switch {
	case fileIsStored:
		return same
	case fileIsBase:
		return keep
	case storedIsBase:
		return take
	default:
		return conflict
	}
}

// merge brings the file's params and secrets together with the stored ones.
func (p *planner) merge(ctx context.Context, s *tenantState, c *connectorRecord, in content, provider providers.Provider, plan *connectorPlan) error {
	schema := provider.Schema()
	bundle, err := p.bundle(ctx, s, plan.stored)
	if err != nil {
		return err
	}
	// The file speaks of the names of today, so what is stored has to as well.
	renamed := false
	if plan.stored != nil {
		if renamed, err = connector.Upgrade(schema, &plan.next, func() (*vault.Bundle, error) { return &bundle, nil }); err != nil {
			return err
		}
	}
	was := connector.StoredConfig(schema, &plan.next, bundle.Values)
	// What stays takes part in the check: what the file doesn't mention and no
	// import brought, or all that it doesn't mention when it states no whole.
	input := providers.Input{Params: maps.Clone(in.input.Params), Secrets: in.input.Secrets.Clone()}
	if input.Params == nil {
		input.Params = map[string]any{}
	}
	for name, param := range plan.next.Params {
		if _, given := in.input.Params[name]; !given && (param.Imported == nil || !in.whole) {
			input.Params[name] = param.Value
		}
	}
	cfg, complaints, err := decode(schema, input, bundle.Values.Names())
	if err != nil {
		return fmt.Errorf("decode %s: %w", c.ID, err)
	}
	for _, v := range complaints {
		p.violation(c, in, v)
	}
	if len(complaints) > 0 {
		return nil
	}
	now := p.im.Now().UTC()
	content := p.mergeParams(c, in, cfg, schema, plan, now)
	if p.direct(c, in, cfg, schema, bundle, plan, now) {
		content = true
	}
	if p.mergeSecrets(c, in, bundle, plan, now) {
		content = true
	}
	if renamed && plan.secrets == nil {
		// Whatever else of the record is written, its version is the present one.
		plan.secrets, plan.imported = bundle.Values, bundle.Imported
	}
	if content && plan.stored != nil {
		plan.next.State = connector.StateUntested
	}
	if is, ok := p.recheck(c, in, schema, plan, bundle); ok && plan.stored != nil {
		return p.regrant(ctx, provider, plan, was, is)
	}
	return nil
}

// regrant says what becomes of the connector's OAuth2 grant, and of its state by
// that, as an edit does.
func (p *planner) regrant(ctx context.Context, provider providers.Provider, plan *connectorPlan, was, is providers.Config) error {
	plan.consents = connector.NeedsConsent(provider, is)
	plan.unbinds = connector.Unbinds(provider, was, is)
	if plan.consents && !plan.unbinds && plan.stored.State == connector.StateNeedsReauthorization {
		plan.next.State = plan.stored.State
	}
	if !plan.unbinds {
		return nil
	}
	row, err := p.im.Store.Grant(ctx, plan.tenant, plan.stored.ID)
	if err != nil {
		return fmt.Errorf("read the grant of %s: %w", label(plan.stored), err)
	}
	plan.granted = row.Status != connector.GrantNone
	return nil
}

// bound keeps a stored secret from being sent to a place that it was not meant
// for: a new target needs the secret beside it, or voids it while inactive. One
// that the file gives must also be the one that is sent: see mergeSecrets.
func (p *planner) bound(c *connectorRecord, in content, schema *providers.Schema, plan *connectorPlan, param string) {
	if plan.stored == nil {
		return
	}
	for _, name := range schema.BoundSecrets(param) {
		if _, stored := plan.next.Secrets[name]; !stored {
			continue
		}
		if in.input.Secrets[name].IsSet() {
			plan.retargeted = append(plan.retargeted, name)
			continue
		}
		if plan.next.Active {
			at := in.placeOf(c, param)
			p.problem(at.at, at.record, "param %q: says where secret %q is sent, so the file must give that secret too", param, name)
		} else {
			plan.voided = append(plan.voided, name)
		}
	}
}

// direct keeps a secret of the file from being sent to a place that the file
// doesn't know: where a param that says so was changed in the store alone, the
// store's value is kept, and a secret of the file would be stored beside it. That
// is a conflict; with Force the file's place comes with the file's secret. It
// tells whether a param was changed.
func (p *planner) direct(c *connectorRecord, in content, cfg providers.Config, schema *providers.Schema, bundle vault.Bundle, plan *connectorPlan, now time.Time) bool {
	if plan.stored == nil {
		return false
	}
	changed := false
	// A place that is taken may bring more secrets of the file along, and those
	// bind places of their own: it ends when a pass takes nothing.
	for again := true; again; {
		again = false
		for i := range schema.Params {
			if p.directParam(c, in, cfg, schema, bundle, plan, &schema.Params[i], now) {
				again, changed = true, true
			}
		}
	}
	return changed
}

// directParam does [planner.direct] for one param, and tells whether it was taken.
func (p *planner) directParam(c *connectorRecord, in content, cfg providers.Config, schema *providers.Schema, bundle vault.Bundle, plan *connectorPlan, param *providers.Param, now time.Time) bool {
	var brought []string
	for _, name := range schema.BoundSecrets(param.Name) {
		o := in.decideSecret(bundle, plan, name)
		if _, given := in.input.Secrets[name]; given && (o == take || o == conflict) {
			brought = append(brought, fmt.Sprintf("%q", name))
		}
	}
	held, exists := plan.next.Params[param.Name]
	wanted, stated := in.statedPlace(cfg, *param, held)
	present := held.Value
	if present == nil {
		present = param.Default
	}
	if len(brought) == 0 || connector.SameValue(wanted, present) {
		return false
	}
	at := in.placeOf(c, param.Name)
	if !p.o.Force {
		if !slices.ContainsFunc(plan.conflicts, func(q datafile.Problem) bool {
			return strings.HasPrefix(q.Message, fmt.Sprintf("param %q ", param.Name))
		}) {
			plan.conflicts = append(plan.conflicts, datafile.Problem{
				File: p.file.NameOf(at.record), Position: at.at, Record: at.record.ID,
				Message: fmt.Sprintf("param %q changed in the store since the last import, and says where secret %s is sent: the secret in the file was meant for another place",
					param.Name, strings.Join(brought, ", ")),
			})
		}
		return false
	}
	plan.kept = slices.DeleteFunc(plan.kept, func(name string) bool { return name == param.Name })
	plan.changed = append(plan.changed, param.Name)
	if exists && param.Immutable {
		p.problem(at.at, at.record, "param %q: is set once and never changes", param.Name)
	}
	p.bound(c, in, schema, plan, param.Name)
	if !stated {
		delete(plan.next.Params, param.Name)
		return true
	}
	plan.next.Params[param.Name] = connector.Param{Value: wanted, Writer: connector.WriterImport, Imported: wanted, UpdatedAt: now}
	return true
}

// decideSecret merges one secret. What mergeSecrets stores and what direct guards
// must be the same secrets, so both ask here.
func (in content) decideSecret(bundle vault.Bundle, plan *connectorPlan, name string) outcome {
	value, given := in.input.Secrets[name]
	old, exists := bundle.Values[name]
	_, imported := bundle.Imported[name]
	if slices.Contains(plan.voided, name) {
		exists, imported = false, false
	}
	is := func(v secret.Value) bool { return imported && bundle.Brought(plan.next.ID, name, v) }
	switch {
	case !given && !imported || exists && in.creates[name]:
		return keep // the file has nothing to say about it
	case !given:
		return decide(false, false, is(old))
	}
	o := decide(exists && value.Equal(old), is(value), !exists && !imported || exists && is(old))
	if o == keep && slices.Contains(plan.retargeted, name) {
		return conflict // the store's secret was not meant for the file's new target
	}
	return o
}

// statedPlace is a param as the file has it, or had it when it was last imported
// where this file says nothing; else its default, which is not stated.
func (in content) statedPlace(cfg providers.Config, param providers.Param, held connector.Param) (value any, stated bool) {
	if _, given := in.input.Params[param.Name]; given {
		if v, ok := cfg.Params[param.Name]; ok {
			return v, true
		}
	}
	if !in.whole && held.Imported != nil {
		return held.Imported, true
	}
	return param.Default, false
}

// placeOf is where the file gives a name, else the connector's own line.
func (in content) placeOf(c *connectorRecord, name string) place {
	if at, ok := in.places[name]; ok {
		return at
	}
	return place{c.Position, c.Record}
}

// bundle reads the pinned secrets. One that is gone for good holds nothing.
func (p *planner) bundle(ctx context.Context, s *tenantState, stored *connector.Connector) (vault.Bundle, error) {
	if stored == nil || stored.Pin.IsZero() {
		return vault.Bundle{}, nil
	}
	b, err := p.im.Secrets.Read(ctx, connector.SecretRef{Tenant: s.id, Connector: stored.ID, Pin: stored.Pin})
	b.Values, b.Imported = b.Values.Clone(), maps.Clone(b.Imported)
	if errors.Is(err, fault.NotFound) {
		return vault.Bundle{}, nil
	}
	if err != nil {
		return b, fmt.Errorf("read secrets of %s: %w", label(stored), err)
	}
	return b, nil
}

// mergeParams merges params into plan.next and tells whether any changed.
func (p *planner) mergeParams(c *connectorRecord, in content, cfg providers.Config, schema *providers.Schema, plan *connectorPlan, now time.Time) bool {
	next := &plan.next
	if next.Params == nil {
		next.Params = map[string]connector.Param{}
	}
	names := slices.Collect(maps.Keys(in.input.Params))
	for name := range next.Params {
		if _, given := in.input.Params[name]; !given && in.whole {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	changed := false
	for _, name := range names {
		_, given := in.input.Params[name]
		value, decoded := cfg.Params[name]
		given = given && decoded
		old, exists := next.Params[name]
		imported := exists && old.Imported != nil
		if !given && !imported {
			continue // set by the API; the file has nothing to say about it
		}
		if exists && in.creates[name] {
			continue // noupdate
		}
		var o outcome
		if given {
			o = decide(exists && connector.SameValue(value, old.Value), imported && connector.SameValue(value, old.Imported), !exists || imported && connector.SameValue(old.Value, old.Imported))
		} else {
			o = decide(old.Value == nil, false, connector.SameValue(old.Value, old.Imported))
		}
		if o == conflict && p.o.Force {
			o = take
		}
		switch o {
		case same:
			if !given { // cleared, and gone from the file: nothing is left to remember
				plan.agreed = append(plan.agreed, name)
				delete(next.Params, name)
				break
			}
			// What this import brought must be known to the next one, else a later
			// change in the store alone would look like one on both sides.
			if imported && !connector.SameValue(value, old.Imported) {
				plan.agreed = append(plan.agreed, name)
			}
			old.Imported = value
			next.Params[name] = old
		case keep:
			plan.kept = append(plan.kept, name)
		case take:
			changed = true
			plan.changed = append(plan.changed, name)
			if param := schema.Param(name); exists && param != nil && param.Immutable {
				at := in.placeOf(c, name)
				p.problem(at.at, at.record, "param %q: is set once and never changes", name)
			}
			p.bound(c, in, schema, plan, name)
			if !given {
				delete(next.Params, name)
				break
			}
			next.Params[name] = connector.Param{Value: value, Writer: connector.WriterImport, Imported: value, UpdatedAt: now}
		case conflict:
			p.conflict(c, in, plan, "param", name)
		}
	}
	return changed
}

func (p *planner) conflict(c *connectorRecord, in content, plan *connectorPlan, what, name string) {
	at := in.placeOf(c, name)
	plan.conflicts = append(plan.conflicts, datafile.Problem{
		File: p.file.NameOf(at.record), Position: at.at, Record: at.record.ID,
		Message: fmt.Sprintf("%s %q changed in the file and in the store since the last import", what, name),
	})
}

// mergeSecrets merges secrets into plan and tells whether any changed. Only a
// change makes a new map: a secret equal to the pinned one is no write.
func (p *planner) mergeSecrets(c *connectorRecord, in content, bundle vault.Bundle, plan *connectorPlan, now time.Time) bool {
	next := &plan.next
	merged := vault.Bundle{Values: bundle.Values.Clone(), Imported: maps.Clone(bundle.Imported)}
	if merged.Values == nil {
		merged.Values = secret.Map{}
	}
	if next.Secrets == nil {
		next.Secrets = map[string]connector.SecretInfo{}
	}
	names := in.input.Secrets.Names()
	for name := range next.Secrets {
		if _, given := in.input.Secrets[name]; !given && (in.whole || slices.Contains(plan.voided, name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	changed := false
	for _, name := range names {
		value, given := in.input.Secrets[name]
		if slices.Contains(plan.voided, name) {
			delete(merged.Values, name)
			delete(merged.Imported, name)
		}
		_, exists := merged.Values[name]
		_, wasImported := merged.Imported[name]
		if !given && !exists {
			// Gone from the vault, or void: the record says so too.
			delete(next.Secrets, name)
			delete(merged.Imported, name)
			changed, plan.changed = true, append(plan.changed, name)
			continue
		}
		if !given && !wasImported || exists && in.creates[name] {
			continue
		}
		o := in.decideSecret(bundle, plan, name)
		if o == conflict && p.o.Force {
			o = take
		}
		switch o {
		case same:
			merged.Remember(next.ID, name, value)
		case keep:
			plan.kept = append(plan.kept, name)
		case take:
			changed = true
			plan.changed = append(plan.changed, name)
			if !given {
				delete(merged.Values, name)
				delete(merged.Imported, name)
				delete(next.Secrets, name)
				break
			}
			merged.Values[name] = value
			merged.Remember(next.ID, name, value)
			next.Secrets[name] = connector.SecretInfo{
				Version: next.Secrets[name].Version + 1, Writer: connector.WriterImport, UpdatedAt: now,
			}
		case conflict:
			p.conflict(c, in, plan, "secret", name)
		}
	}
	if changed {
		plan.secrets, plan.imported = merged.Values, merged.Imported
	}
	return changed
}

// recheck decodes the merged result: each side may be valid and both together not.
// It returns it with its secrets; false where there is none.
func (p *planner) recheck(c *connectorRecord, in content, schema *providers.Schema, plan *connectorPlan, bundle vault.Bundle) (providers.Config, bool) {
	if len(plan.conflicts) > 0 || plan.stored == nil {
		return providers.Config{}, false
	}
	input := providers.Input{Params: map[string]any{}, Secrets: plan.secrets}
	if plan.secrets == nil {
		input.Secrets = bundle.Values
	}
	for name, param := range plan.next.Params {
		input.Params[name] = param.Value
	}
	cfg, complaints, err := decode(schema, input, nil)
	if err != nil {
		complaints = []fault.Violation{{Message: "the merged config can't be read"}}
	}
	for _, v := range complaints {
		v.Message += " (together with what is stored)"
		p.violation(c, in, v)
	}
	return cfg, len(complaints) == 0
}
