package tenant_test

import (
	"slices"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func organizations(e *tenant.Env) []string {
	var out []string
	for _, o := range e.Organizations() {
		out = append(out, o.String())
	}
	return out
}

func TestOrganizationRules(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}})
	for name, c := range map[string]struct {
		claims  map[string]any
		active  string
		allowed []string
		all     bool
	}{
		"organization alone allows itself":   {map[string]any{"org_id": "hq"}, "hq", []string{"hq"}, false},
		"organization among several":         {map[string]any{"org_id": "hq", "org_ids": []string{"branch", "hq"}}, "hq", []string{"branch", "hq"}, false},
		"exactly one allowed becomes active": {map[string]any{"org_id": nil, "org_ids": []string{"branch"}}, "branch", []string{"branch"}, false},
		"the same one twice is exactly one":  {map[string]any{"org_id": nil, "org_ids": []string{"hq", "hq"}}, "hq", []string{"hq"}, false},
		"several allowed, none active":       {map[string]any{"org_id": nil, "org_ids": []string{"hq", "branch"}}, "", []string{"hq", "branch"}, false},
		"none at all":                        {map[string]any{"org_id": nil}, "", nil, false},
		"an empty list":                      {map[string]any{"org_id": nil, "org_ids": []string{}}, "", nil, false},
		"star with an active one":            {map[string]any{"org_id": "hq", "org_ids": []string{"*"}}, "hq", nil, true},
		"star without an active one":         {map[string]any{"org_id": nil, "org_ids": []string{"*"}}, "", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := v.Verify(t.Context(), ec.sign(t, good(c.claims)))
			if err != nil {
				t.Fatal(err)
			}
			if env.Organization().String() != c.active || !slices.Equal(organizations(env), c.allowed) || env.AllOrganizations() != c.all {
				t.Errorf("active %q, allowed %v, all %v; want %q, %v, %v",
					env.Organization(), organizations(env), env.AllOrganizations(), c.active, c.allowed, c.all)
			}
		})
	}
}

func TestChoose(t *testing.T) { // not parallel: it counts allocations
	ec := newES256(t, "ec")
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}})
	some, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"org_ids": []string{"hq", "branch"}})))
	if err != nil {
		t.Fatal(err)
	}
	all, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"org_ids": []string{"*"}})))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env    *tenant.Env
		chosen string
		want   string
		code   fault.Code
	}{
		"nothing chosen":       {some, "", "hq", ""},
		"another allowed one":  {some, "branch", "branch", ""},
		"outside the allowed":  {some, "lab", "", fault.PermissionDenied},
		"malformed":            {some, "../lab", "", fault.InvalidArgument},
		"any one under star":   {all, "lab", "lab", ""},
		"malformed under star": {all, "Lab", "", fault.InvalidArgument},
	} {
		got, err := c.env.Choose(c.chosen)
		if fault.CodeOf(err) != c.code || got.String() != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = some.Choose("branch") }); n != 0 {
		t.Errorf("choosing an allowed organization allocates %v times", n)
	}
}

func TestClaimNames(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	conf := tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
	verify := func(t *testing.T, names tenant.Claims, claims map[string]any) (*tenant.Env, error) {
		t.Helper()
		conf := conf
		conf.Claims = names
		return newVerifier(t, conf).Verify(t.Context(), ec.sign(t, good(map[string]any{"tenant_id": nil, "org_id": nil}, claims)))
	}
	t.Run("dotted path", func(t *testing.T) {
		env, err := verify(t, tenant.Claims{Tenant: "app.customer.id", Roles: "app.roles"},
			map[string]any{"app": map[string]any{"customer": map[string]any{"id": "acme"}, "roles": "a b"}})
		if err != nil || env.Tenant().String() != "acme" || !slices.Equal(env.Roles(), []string{"a", "b"}) {
			t.Fatalf("%v %v", env, err)
		}
	})
	t.Run("a URL is literal although it has dots", func(t *testing.T) {
		env, err := verify(t, tenant.Claims{Tenant: "https://example.com/tenant"}, map[string]any{"https://example.com/tenant": "acme"})
		if err != nil || env.Tenant().String() != "acme" {
			t.Fatalf("%v %v", env, err)
		}
	})
	t.Run("literal wins over the path", func(t *testing.T) {
		env, err := verify(t, tenant.Claims{Tenant: "app.tenant"}, map[string]any{"app.tenant": "acme", "app": map[string]any{"tenant": "globex"}})
		if err != nil || env.Tenant().String() != "acme" {
			t.Fatalf("%v %v", env, err)
		}
	})
	t.Run("a path through a string", func(t *testing.T) {
		_, err := verify(t, tenant.Claims{Tenant: "app.tenant"}, map[string]any{"app": "acme"})
		if fault.CodeOf(err) != fault.Unauthenticated {
			t.Fatal(err)
		}
	})
	t.Run("a malformed literal is not rescued by the path", func(t *testing.T) {
		_, err := verify(t, tenant.Claims{Tenant: "app.tenant"}, map[string]any{"app.tenant": 7, "app": map[string]any{"tenant": "acme"}})
		if fault.CodeOf(err) != fault.Unauthenticated {
			t.Fatal(err)
		}
	})
}

func TestPinnedIssuer(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}, Tenant: "acme"})
	wantCode(t, v, ec.sign(t, good()), "")
	wantCode(t, v, ec.sign(t, good(map[string]any{"tenant_id": "globex"})), fault.PermissionDenied)
	env, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"tenant_id": nil})))
	if err != nil || env.Tenant().String() != "acme" {
		t.Fatalf("without a tenant claim the pin speaks: %v, %v", env, err)
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	conf := tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
	global := map[string][]tenant.Permission{"acme-admin": {tenant.ConnectorsRead, tenant.ConnectorsWrite}}
	own := map[string][]tenant.Permission{"boss": {tenant.PlatformAdmin}}
	for name, c := range map[string]struct {
		global, own map[string][]tenant.Permission
		roles       any
		want        []tenant.Permission
	}{
		"no map: names are permissions":            {nil, nil, []string{"connectors.read", "acme-admin"}, []tenant.Permission{tenant.ConnectorsRead}},
		"no roles":                                 {nil, nil, nil, nil},
		"space-separated":                          {nil, nil, "connectors.read secrets.read", []tenant.Permission{tenant.ConnectorsRead, tenant.SecretsRead}},
		"a map translates":                         {global, nil, []string{"acme-admin"}, []tenant.Permission{tenant.ConnectorsRead, tenant.ConnectorsWrite}},
		"with a map a permission's name is no one": {global, nil, []string{"platform.admin", "connectors.read"}, nil},
		"the issuer's own map replaces":            {global, own, []string{"boss", "acme-admin"}, []tenant.Permission{tenant.PlatformAdmin}},
		"an empty map of its own is none":          {global, map[string][]tenant.Permission{}, []string{"secrets.read"}, []tenant.Permission{tenant.SecretsRead}},
	} {
		t.Run(name, func(t *testing.T) {
			conf := conf
			conf.RoleMap = c.own
			v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}, RoleMap: c.global})
			if err != nil {
				t.Fatal(err)
			}
			env, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"roles": c.roles})))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range tenant.Permissions() {
				if env.Can(p) != slices.Contains(c.want, p) {
					t.Errorf("Can(%s) is %v", p, env.Can(p))
				}
			}
		})
	}
}
