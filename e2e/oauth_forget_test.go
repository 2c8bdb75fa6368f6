package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/client/admin"
	"github.com/patchbay-dev/patchbay/vault"
)

// kept is all that Vault still has of the mailbox's grant, in every version, for
// somebody with all rights.
func (m *mailbox) kept() string {
	m.f.Helper()
	data, err := vault.GrantPath(m.f.mount+"/data/patchbay", m.tenant, m.id)
	if err != nil {
		m.f.Fatal(err)
	}
	meta := strings.Replace(data, "/data/", "/metadata/", 1)
	held, _ := m.f.vault.Do(m.f, "GET", meta, nil)["data"].(map[string]any)
	versions, _ := held["versions"].(map[string]any)
	if len(versions) == 0 {
		m.f.Fatal("the grant has no versions")
	}
	var all strings.Builder
	for n := range versions {
		var answer map[string]any
		err := m.f.vault.Call(m.f.vault.RootToken, "GET", data+"?version="+n, nil, &answer)
		fmt.Fprintf(&all, "%s: %v %v\n", n, answer, err)
	}
	return all.String()
}

// An account that is disconnected leaves no token in Vault, not even in the versions
// that refreshes have left, and connecting it again goes on from there.
func TestADisconnectedAccountLeavesNoToken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	i := newIssuer(t, time.Hour)
	f.newCacheKey()
	m := f.newMailbox(i)
	control := f.control(m.env()...)
	s := f.serve(m.env()...)
	c := control.adminOf("initech")
	m.consent()
	m.consent() // so that there is a version before the latest
	if _, err := mintedOf(s.get("/v1/resolve/email", m.token)); err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		all := m.kept()
		for _, token := range i.handedOut() {
			if token != "" && strings.Contains(all, token) {
				n++
			}
		}
		return n
	}
	if n := left(); n < 4 {
		t.Fatalf("%d tokens in Vault while the account is connected", n)
	}
	_, meta, err := c.DeactivateConnector(t.Context(), m.id.String(), admin.Goodbye{AllowNoDefault: true, Revoke: true})
	if err != nil {
		t.Fatal(err)
	}
	if meta.Revocation != "forgotten_only" { // Microsoft has no address for revocations
		t.Errorf("the revocation ended as %q", meta.Revocation)
	}
	if n := left(); n != 0 {
		t.Errorf("%d tokens are left in Vault", n)
	}
	if a := s.get("/v1/resolve/email", m.token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10)); a.code != http.StatusNotFound {
		t.Errorf("a sidecar answers %d %s", a.code, a.body)
	}
	m.consent()
	_, _, err = c.ActivateConnector(t.Context(), m.id.String(), "the mail API is not there")
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	now, _, err := c.GetConnector(t.Context(), m.id.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, meta, err = c.PatchConnector(t.Context(), m.id.String(), admin.Edit{IsDefault: &yes}, admin.IfMatch(now.ETag())); err != nil {
		t.Fatal(err)
	}
	got, err := mintedOf(s.get("/v1/resolve/email", m.token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10)))
	if err != nil || got.access != i.latest() {
		t.Errorf("connected again: %v", err)
	}
}

// A client secret that was changed to a wrong one fails its test in the step that
// asks for a token, with the token of the right one still at hand; the right one
// passes that step, by one refresh.
func TestAWrongClientSecretIsFoundOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	i := newIssuer(t, time.Hour)
	f.newCacheKey()
	m := f.newMailbox(i)
	c := f.control(m.env()...).adminOf("initech")
	s := f.serve(m.env()...)
	m.consent()
	first, err := mintedOf(s.get("/v1/resolve/email", m.token))
	if err != nil {
		t.Fatal(err)
	}
	change := func(secret string) {
		t.Helper()
		now, _, err := c.GetConnector(t.Context(), m.id.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.PatchConnector(t.Context(), m.id.String(), admin.Edit{Secrets: map[string]*string{"client_secret": &secret}}, admin.IfMatch(now.ETag())); err != nil {
			t.Fatal(err)
		}
	}
	token := func() admin.TestStep {
		t.Helper()
		r, err := c.TestConnector(t.Context(), m.id.String(), 1, "")
		if err != nil || len(r.Steps) == 0 || r.Steps[0].Name != "token" {
			t.Fatalf("%+v %v", r, err)
		}
		return r.Steps[0]
	}
	if step := token(); step.Status != "ok" {
		t.Fatalf("the right secret: %+v", step)
	}
	change("CANARY-of-a-wrong-secret")
	if step := token(); step.Status != "fail" || step.Code != "oauth_client_invalid" {
		t.Errorf("a wrong secret: %+v", step)
	}
	// What is served is good until its end: the hot path asks nobody.
	before := i.refreshed.Load()
	if _, err := mintedOf(s.get("/v1/resolve/email", m.token)); err != nil {
		t.Error(err)
	}
	if n := i.refreshed.Load() - before; n != 0 {
		t.Errorf("an answer made %d refreshes", n)
	}
	change(clientSecret)
	for range 2 {
		if step := token(); step.Status != "ok" {
			t.Errorf("the right secret again: %+v", step)
		}
	}
	if i.latest() == first.access || i.refused.Load() == 0 {
		t.Errorf("%d refusals, and the token is the one of before: %v", i.refused.Load(), i.latest() == first.access)
	}
}
