package tenanttest_test

import (
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

func TestKit(t *testing.T) {
	t.Parallel()
	k := tenanttest.New(t)
	env := k.Env("acme", "hq", "hq", "lab")
	if env.Tenant().String() != "acme" || env.Organization().String() != "hq" || len(env.Organizations()) != 2 {
		t.Errorf("env %+v", env)
	}
	if env := k.Env("acme", ""); !env.Organization().IsZero() || len(env.Organizations()) != 0 {
		t.Errorf("env %+v", env)
	}
	if !k.Env("acme", "", "*").AllOrganizations() {
		t.Error("star is not all")
	}
	if _, err := k.Verifier.Verify(t.Context(), k.Sign(map[string]any{"tenant_id": "acme"})); err != nil {
		t.Error(err)
	}
	_, err := k.Verifier.Verify(t.Context(), k.Sign(map[string]any{"tenant_id": "acme", "exp": nil}))
	if fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("without exp: %v", err)
	}
	// Two kits don't trust each other.
	if _, err := tenanttest.New(t).Verifier.Verify(t.Context(), k.Token(tenanttest.Claims{Tenant: "acme"})); err == nil {
		t.Error("another kit's token is good")
	}
}
