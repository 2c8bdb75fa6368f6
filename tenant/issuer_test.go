package tenant_test

import (
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/tenant"
)

func TestValidateIssuers(t *testing.T) {
	t.Parallel()
	good := func() tenant.Issuer {
		return tenant.Issuer{Issuer: "https://id.example.com", JWKSURL: "https://id.example.com/jwks", Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
	}
	if v := tenant.ValidateIssuers([]tenant.Issuer{good()}, nil); len(v) != 0 {
		t.Fatalf("a good issuer: %v", v)
	}
	for name, c := range map[string]struct {
		change  func(*tenant.Issuer)
		pointer string
		says    string
	}{
		"no issuer":            {func(i *tenant.Issuer) { i.Issuer = "" }, "/issuers/0/issuer", "required"},
		"no source":            {func(i *tenant.Issuer) { i.JWKSURL = "" }, "/issuers/0", "exactly one key source"},
		"two sources":          {func(i *tenant.Issuer) { i.PEMFile = "x" }, "/issuers/0", "exactly one key source"},
		"not a URL":            {func(i *tenant.Issuer) { i.JWKSURL = "id.example.com" }, "/issuers/0/jwks_url", "URL"},
		"file URL":             {func(i *tenant.Issuer) { i.JWKSURL = "file:///etc/keys" }, "/issuers/0/jwks_url", "URL"},
		"no audience":          {func(i *tenant.Issuer) { i.Audiences = nil }, "/issuers/0/audiences", "audience"},
		"no algorithms":        {func(i *tenant.Issuer) { i.Algorithms = nil }, "/issuers/0/algorithms", "required"},
		"none":                 {func(i *tenant.Issuer) { i.Algorithms = []string{"ES256", "None"} }, "/issuers/0/algorithms", "none"},
		"unknown algorithm":    {func(i *tenant.Issuer) { i.Algorithms = []string{"es256"} }, "/issuers/0/algorithms", "es256"},
		"HMAC and public":      {func(i *tenant.Issuer) { i.Algorithms = []string{"RS256", "HS256"} }, "/issuers/0/algorithms", "mix"},
		"HMAC over a key set":  {func(i *tenant.Issuer) { i.Algorithms = []string{"HS256"} }, "/issuers/0/algorithms", "hmac_file"},
		"public over a secret": {func(i *tenant.Issuer) { i.JWKSURL, i.HMACFile = "", "x" }, "/issuers/0/algorithms", "hmac_file"},
		"bad pin":              {func(i *tenant.Issuer) { i.Tenant = "../x" }, "/issuers/0/tenant", "tenant id"},
		"no such permission":   {func(i *tenant.Issuer) { i.RoleMap = map[string][]tenant.Permission{"a/b": {"root"}} }, "/issuers/0/roles/a~1b/0", "permission"},
	} {
		t.Run(name, func(t *testing.T) {
			is := good()
			c.change(&is)
			for _, v := range tenant.ValidateIssuers([]tenant.Issuer{is}, nil) {
				if v.Pointer == c.pointer && strings.Contains(v.Message, c.says) {
					return
				}
			}
			t.Errorf("got %v", tenant.ValidateIssuers([]tenant.Issuer{is}, nil))
		})
	}
	t.Run("every problem at once", func(t *testing.T) {
		if v := tenant.ValidateIssuers([]tenant.Issuer{{}, {}}, map[string][]tenant.Permission{"a": {"root"}}); len(v) < 9 {
			t.Errorf("only %v", v)
		}
	})
	t.Run("no issuers", func(t *testing.T) {
		if v := tenant.ValidateIssuers(nil, nil); len(v) != 1 {
			t.Errorf("got %v", v)
		}
	})
	t.Run("the same issuer twice", func(t *testing.T) {
		if v := tenant.ValidateIssuers([]tenant.Issuer{good(), good()}, nil); len(v) != 1 || v[0].Pointer != "/issuers/1/issuer" {
			t.Errorf("got %v", v)
		}
	})
}
