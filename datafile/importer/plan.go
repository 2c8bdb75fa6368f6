package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Action is what a plan does with one record.
type Action string

// The actions.
const (
	Create    Action = "create"
	Update    Action = "update"
	Unchanged Action = "unchanged"
	Restore   Action = "restore"
	Skip      Action = "skip" // a deleted connector that is not to be revived
	Conflict  Action = "conflict"
)

// Plan is what an import of one file would do, or of several that were joined. It is bound to the state it was made from:
// Apply notices when that has moved.
type Plan struct {
	file       *datafile.File
	options    Options
	expand     *expander
	tenants    []*tenantPlan
	connectors []*connectorPlan
	replaced   []replacedDefault
}

// of groups the plan's connectors by tenant, in file order.
func (p *Plan) of() map[tenant.ID][]*connectorPlan {
	m := make(map[tenant.ID][]*connectorPlan, len(p.tenants))
	for _, c := range p.connectors {
		add(m, c.tenant, c)
	}
	return m
}

type tenantPlan struct {
	action  Action
	next    connector.Tenant
	changed []string
	note    string
	orgs    []*organizationPlan
}

type organizationPlan struct {
	action  Action
	next    connector.Organization
	changed []string
	note    string
}

// connectorPlan is one connector: what is stored and what shall be.
type connectorPlan struct {
	action    Action
	tenant    tenant.ID
	label     string               // record id
	record    *datafile.Record     // as the file has it; of rows alone a stand-in
	stored    *connector.Connector // nil: none
	next      connector.Connector
	changed   []string // names of fields, params and secrets, never values
	kept      []string // changed in the store since the last import; the file did not
	note      string
	conflicts datafile.Problems

	agreed              []string // params that the store had already changed to what the file says now
	voided              []string // secrets that a changed target makes void
	retargeted          []string // secrets that the file gives together with a new target
	claims              bool     // the file says is_default
	consents            bool     // what is stored then needs a user's consent
	unbinds             bool     // its grant goes, and a consent that is under way
	granted             bool     // there was one when the plan was made
	defaultAt, activeAt datafile.Position

	// secrets is the whole new map, nil when nothing is written to the vault.
	secrets  secret.Map
	imported map[string]string
}

// noteNoUpdate marks a stored record that its file leaves alone.
const noteNoUpdate = "noupdate"

// replacedDefault is a slot whose stored default gives way to the file's.
type replacedDefault struct {
	tenant       tenant.ID
	organization tenant.OrganizationID
	category     providers.Category
	old          connector.Connector
	by           string
}

// Changed tells whether applying the plan would write anything.
func (p *Plan) Changed() bool { return len(p.changes()) > 0 }

// changes holds the tenants of which anything changes: only their revisions move.
func (p *Plan) changes() map[tenant.ID]bool {
	m := map[tenant.ID]bool{}
	for _, t := range p.tenants {
		if t.action != Unchanged || slices.ContainsFunc(t.orgs, func(o *organizationPlan) bool { return o.action != Unchanged }) {
			m[t.next.ID] = true
		}
	}
	for _, c := range p.connectors {
		if c.writes() {
			m[c.tenant] = true
		}
	}
	for _, r := range p.replaced {
		m[r.tenant] = true
	}
	return m
}

func (c *connectorPlan) writes() bool {
	return c.action == Create || c.action == Update || c.action == Restore
}

// Conflicts lists what both the file and the store changed since the last
// import, with the place in the file.
func (p *Plan) Conflicts() datafile.Problems {
	var out datafile.Problems
	for _, c := range p.connectors {
		out = append(out, c.conflicts...)
	}
	return out.Sort()
}

// conflictError is nil without conflicts.
func (p *Plan) conflictError() error {
	conflicts := p.Conflicts()
	if len(conflicts) == 0 {
		return nil
	}
	vs := make([]fault.Violation, len(conflicts))
	for i, c := range conflicts {
		vs[i] = fault.Violation{Code: string(fault.Conflict), Message: c.String()}
	}
	return fault.New(fault.Conflict, "the file and the store both changed since the last import; nothing was imported. With --force the file wins").
		WithViolations(vs...)
}

// Count returns how many records the plan handles with the given action.
func (p *Plan) Count(a Action) int {
	n := 0
	for _, t := range p.tenants {
		if t.action == a {
			n++
		}
		for _, o := range t.orgs {
			if o.action == a {
				n++
			}
		}
	}
	for _, c := range p.connectors {
		if c.action == a {
			n++
		}
	}
	return n
}

// String is the plan for people: names of what changes, never a value.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.file.Name)
	line := func(action Action, what string, changed []string, note string) {
		fmt.Fprintf(&b, "  %-9s  %s", action, what)
		if len(changed) > 0 {
			fmt.Fprintf(&b, ": %s", strings.Join(changed, ", "))
		}
		if note != "" {
			fmt.Fprintf(&b, " (%s)", note)
		}
		b.WriteByte('\n')
	}
	connectors := p.of()
	for _, t := range p.tenants {
		line(t.action, "tenant "+t.next.ID.String(), t.changed, t.note)
		for _, o := range t.orgs {
			line(o.action, "organization "+t.next.ID.String()+"/"+o.next.ID.String(), o.changed, o.note)
		}
		for _, c := range connectors[t.next.ID] {
			owner := "whole tenant"
			if !c.next.Organization.IsZero() {
				owner = "organization " + c.next.Organization.String()
			}
			line(c.action, fmt.Sprintf("connector %s [%s %s, %s]", c.label, c.next.Category, c.next.Kind, owner), c.changed, c.note)
			if len(c.agreed) > 0 {
				fmt.Fprintf(&b, "             changed in the store to the same already: %s\n", strings.Join(c.agreed, ", "))
			}
			if len(c.kept) > 0 {
				fmt.Fprintf(&b, "             kept as changed since the last import: %s\n", strings.Join(c.kept, ", "))
			}
			if c.granted && c.writes() {
				b.WriteString("             its OAuth2 grant ends, as its client or where it is used changes\n")
			}
			for _, x := range c.conflicts {
				fmt.Fprintf(&b, "             conflict: %s\n", x)
			}
		}
		for _, r := range p.replaced {
			if r.tenant == t.next.ID {
				slot := string(r.category)
				if !r.organization.IsZero() {
					slot += " of organization " + r.organization.String()
				}
				fmt.Fprintf(&b, "  default    %s: %s replaces %s\n", slot, r.by, label(&r.old))
			}
		}
	}
	fmt.Fprintf(&b, "%d to create, %d to update, %d unchanged", p.Count(Create), p.Count(Update)+p.Count(Restore), p.Count(Unchanged))
	if n := p.Count(Skip); n > 0 {
		fmt.Fprintf(&b, ", %d skipped", n)
	}
	if n := p.Count(Conflict); n > 0 {
		fmt.Fprintf(&b, ", %d in conflict", n)
	}
	b.WriteByte('\n')
	return b.String()
}

// label names a connector for people.
func label(c *connector.Connector) string {
	if c.ExternalID != "" {
		return c.ExternalID
	}
	return c.ID.String()
}
