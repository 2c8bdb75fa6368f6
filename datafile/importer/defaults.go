package importer

import (
	"slices"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// slot is what a default answers for.
type slot struct {
	tenant       tenant.ID
	organization tenant.OrganizationID
	category     providers.Category
}

func (c *connectorPlan) slot() slot {
	return slot{c.tenant, c.next.Organization, c.next.Category}
}

// defaults checks that each slot gets one default at most, and notes which
// stored ones give way.
func (p *planner) defaults(out *Plan) {
	takers := map[slot]*connectorPlan{}
	for _, c := range out.connectors {
		if !c.claims {
			continue
		}
		if first, dup := takers[c.slot()]; dup {
			p.problem(c.defaultAt, c.record, "a second default of the same organization and category; the first is %q at %s", first.label, p.where(first.record, first.defaultAt, c.record))
			continue
		}
		takers[c.slot()] = c
	}
	for _, c := range out.connectors {
		if takers[c.slot()] != c || c.action == Skip || c.note == noteNoUpdate {
			continue
		}
		p.replace(out, c)
	}
	for _, c := range out.connectors {
		if c.next.Default && !c.next.Active {
			p.problem(c.activeAt, c.record, "this connector is the default; give another one is_default, or this one is_default false")
		}
	}
}

// replace notes that the stored default of c's slot gives way to c.
func (p *planner) replace(out *Plan, c *connectorPlan) {
	for _, old := range p.states[c.tenant].byID {
		if !old.Default || old.ID == c.next.ID || old.Organization != c.next.Organization || old.Category != c.next.Category {
			continue
		}
		out.replaced = append(out.replaced, replacedDefault{c.tenant, old.Organization, old.Category, *old, c.label})
		// The swap clears the flag, so the old one's own update must not be
		// counted for that alone.
		for _, o := range out.connectors {
			if o.next.ID != old.ID {
				continue
			}
			o.next.Default = false
			o.changed = slices.DeleteFunc(o.changed, func(s string) bool { return s == "default" })
			if o.action == Update && len(o.changed) == 0 {
				o.action = Unchanged
			}
		}
	}
}

// claim remembers what the file says of being the default.
func (c *connectorPlan) claim(isDefault *bool, defaultAt, activeAt datafile.Position) {
	c.claims = isDefault != nil && *isDefault
	c.defaultAt, c.activeAt = defaultAt, activeAt
}
