package connector_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// consented makes a connector with a grant of the client, whose issuer can revoke it
// where the note says so.
func (w *world) consented(name string, org tenant.OrganizationID, client, note string) connector.Connector {
	w.Helper()
	d := w.draft(name, org)
	d.Params["mode"], d.Params["client_id"], d.Params["note"] = "oauth", client, note
	out, err := w.svc.Create(w.ctx(), w.sc, d)
	w.ok(err)
	w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, out.Connector.ID, 3) })
	return w.get(out.Connector.ID)
}

// What came of a revocation is told to who asked, and is on record.
func TestOutcomesOfRevocations(t *testing.T) {
	both(t, func(w *world) {
		outcomes := func(id connector.ID) (list []string) {
			for _, e := range w.audited("connector.grant_revoke", id) {
				list = append(list, e.Outcome)
			}
			return list
		}
		c := w.consented("revocable", hq, "shared", "revocable")
		sibling := w.consented("sibling", hq, "shared", "")
		elsewhere := w.consented("another organization's", labs, "shared", "")
		w.consented("another client's", hq, "own", "")
		gone := w.consented("gone", hq, "shared", "")
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, gone.ID) })

		// The issuer is away: that is on record, and nothing else was done.
		w.mint.away = fault.New(fault.Unavailable, "the issuer is away")
		_, err := w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Revoke: true})
		w.code(err, fault.Unavailable, "the issuer is away")
		if got := outcomes(c.ID); !slices.Equal(got, []string{"failed"}) || w.grant(c.ID) != connector.GrantActive || len(w.mint.forgotten) != 0 {
			w.Errorf("failed: on record %v, grant %q, forgotten %v", got, w.grant(c.ID), w.mint.forgotten)
		}
		w.mint.away = nil

		// Whose account each of a client's grants was given by is not known: who revokes
		// one is told of the others that they can see.
		within := w.sc
		within.AllOrganizations, within.Organizations = false, []tenant.OrganizationID{hq}
		out, err := w.svc.Deactivate(w.ctx(), within, c.ID, connector.DeactivateOptions{Revoke: true})
		w.ok(err)
		if out.Revocation != connector.Revoked || !slices.Equal(out.GrantsBeside, []connector.ID{sibling.ID}) {
			w.Errorf("revoked: %q, beside %v, want %v", out.Revocation, out.GrantsBeside, sibling.ID)
		}
		if got := outcomes(c.ID); !slices.Equal(got, []string{"revoked", "failed"}) {
			w.Errorf("revoked: on record %v", got)
		}
		if note := w.audited("connector.grant_revoke", c.ID)[0].Note; !strings.HasPrefix(note, "2 other connectors") {
			w.Errorf("the note says %q", note) // another organization's is counted, and not named
		}
		want := connector.GrantRef{Tenant: acme, Connector: c.ID, Pin: c.Pin, GrantVersion: 3}
		if !slices.Equal(w.mint.forgotten, []connector.GrantRef{want}) {
			w.Errorf("forgotten %+v, want %+v", w.mint.forgotten, want)
		}

		// An issuer without a way to revoke: the grant is forgotten here alone.
		out, err = w.svc.Delete(w.ctx(), w.sc, elsewhere.ID, connector.DeleteOptions{Version: elsewhere.Version, Revoke: true})
		w.ok(err)
		if got := outcomes(elsewhere.ID); out.Revocation != connector.ForgottenOnly || out.GrantsBeside != nil || !slices.Equal(got, []string{"forgotten_only"}) {
			w.Errorf("forgotten: %q, beside %v, on record %v", out.Revocation, out.GrantsBeside, got)
		}
		if len(w.mint.forgotten) != 2 || w.mint.forgotten[1].Connector != elsewhere.ID {
			w.Errorf("forgotten %+v", w.mint.forgotten)
		}
		// Nobody asked.
		out, err = w.svc.Deactivate(w.ctx(), w.sc, sibling.ID, connector.DeactivateOptions{})
		w.ok(err)
		if out.Revocation != "" || len(outcomes(sibling.ID)) != 0 || len(w.mint.forgotten) != 2 {
			w.Errorf("unasked: %q, on record %v", out.Revocation, outcomes(sibling.ID))
		}
	})
}

// A grant that is unbound is forgotten in the secret store; when that is away the
// edit stands, and the sweeper has work.
func TestAnUnboundGrantIsForgotten(t *testing.T) {
	both(t, func(w *world) {
		for _, away := range []error{nil, fault.New(fault.Unavailable, "vault is away")} {
			w.mint.mu.Lock()
			w.mint.keeps, w.mint.forgotten = away, nil
			w.mint.mu.Unlock()
			c := w.consented("mail", hq, "first", "")
			_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"client_id": "second"}})
			w.ok(err)
			if len(w.mint.forgotten) != 1 || w.mint.forgotten[0].GrantVersion != 3 || w.grant(c.ID) != connector.GrantNone {
				w.Errorf("away %v: forgotten %+v, grant %q", away, w.mint.forgotten, w.grant(c.ID))
			}
			if said := strings.Contains(w.log.String(), "still in the secret store"); said != (away != nil) {
				w.Errorf("away %v, and the log says so: %v", away, said)
			}
		}
	})
}

// What is activated with a client secret that nobody has proven is not tested with a
// token of the one before.
func TestActivationProvesTheClientSecret(t *testing.T) {
	both(t, func(w *world) {
		c := w.consented("mail", hq, "client", "")
		edit := connector.Edit{Active: ptr(true), Secrets: secret.Map{"password": hidden("another")}}
		_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, edit)
		w.code(err, fault.Conflict, "with another secret")
		if hint := providers.CodeSaveFirst.Info().Hint; err == nil || !strings.Contains(fault.Message(err), hint) {
			w.Errorf("it says %v", err)
		}
		w.mint.mu.Lock()
		w.mint.unproven = &providers.TokenError{Code: providers.CodeOAuthClientInvalid, Err: fault.New(fault.Unavailable, "the issuer refuses the client")}
		w.mint.mu.Unlock()
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Active: ptr(true)})
		w.code(err, fault.Conflict, "with a stored one that is wrong")
		if w.get(c.ID).Active {
			w.Error("it is active")
		}
		w.mint.mu.Lock()
		w.mint.unproven = nil
		w.mint.mu.Unlock()
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Active: ptr(true)})
		w.ok(err)
	})
}

// The proof of a client secret is within a tenant's limits on tests: each may be a
// request to the issuer.
func TestProofsAreLimited(t *testing.T) {
	both(t, func(w *world) {
		c := w.consented("mail", hq, "client", "")
		svc := w.service(func(o *connector.ServiceOptions) { o.TestsPerMinute = 2 })
		for n := range 4 {
			_, err := svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
			if n < 2 {
				w.ok(err)
			} else {
				w.code(err, fault.RateLimited, "too many")
			}
		}
		if w.mint.proofs != 2 {
			w.Errorf("%d proofs", w.mint.proofs)
		}
	})
}
