package importer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/tenant"
)

// An import that takes a connector from the client which its grant was given to
// ends the grant, as an edit does; another import leaves it alone.
func grantCase(t *testing.T, w *world) {
	file := func(id, client, secret, sender string) string {
		return header + fmt.Sprintf(`<record id="%s" model="ir.connector"><field name="kind">gmail</field><field name="active" eval="False"/>`+
			`<field name="config" eval="{'client_id': '%s', 'client_secret': '%s', 'sender': '%s@acme.example'}"/></record></patchbay>`, id, client, secret, sender)
	}
	const ends = "its OAuth2 grant ends"
	for n, row := range []struct {
		what           string
		granted        bool
		before         connector.State
		client, secret string
		sender         string
		grant          connector.GrantStatus
		state          connector.State
	}{
		{"the same", true, connector.StateConnected, "one", "canary-one", "a", connector.GrantActive, connector.StateConnected},
		{"what a grant has nothing to do with", true, connector.StateConnected, "one", "canary-one", "b", connector.GrantActive, connector.StateUntested},
		{"another secret of the same client", true, connector.StateConnected, "one", "canary-two", "a", connector.GrantActive, connector.StateUntested},
		{"another client", true, connector.StateConnected, "two", "canary-two", "a", connector.GrantNone, connector.StateNeedsReauthorization},
		{"another client, and no grant", false, connector.StateUntested, "two", "canary-two", "a", connector.GrantNone, connector.StateUntested},
		{"a consent that is missed", false, connector.StateNeedsReauthorization, "one", "canary-one", "b", connector.GrantNone, connector.StateNeedsReauthorization},
	} {
		id := fmt.Sprintf("mail_%d", n)
		w.apply(file(id, "one", "canary-one", "a"), importer.Options{})
		c := w.connector(acme, id)
		if _, err := w.store.Change(t.Context(), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
			if !row.granted {
				return nil
			}
			return tx.Tenant(acme).PutGrant(ctx, c.ID, 1)
		}); err != nil {
			t.Fatal(err)
		}
		w.edit(acme, id, func(c *connector.Connector) { c.State = row.before })
		changed := file(id, row.client, row.secret, row.sender)
		if says, goes := strings.Contains(w.plan(changed, importer.Options{}).String(), ends), row.granted && row.grant == connector.GrantNone; says != goes {
			t.Errorf("%s: the plan tells of the grant's end: %t", row.what, says)
		}
		w.apply(changed, importer.Options{})
		grant, err := w.store.Grant(t.Context(), acme, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.connector(acme, id); grant.Status != row.grant || got.State != row.state {
			t.Errorf("%s: grant %q, state %s, want %q, %s", row.what, grant.Status, got.State, row.grant, row.state)
		}
		if p := w.plan(changed, importer.Options{}); p.Changed() {
			t.Errorf("%s, again:\n%s", row.what, p)
		}
	}
}
