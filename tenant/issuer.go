package tenant

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Issuer configures one issuer of tokens. Exactly one of the key sources
// (JWKSURL, Discovery, JWKSFile, PEMFile, HMACFile, JWKS) is set.
type Issuer struct {
	// Issuer is the exact iss claim.
	Issuer string
	// JWKSURL is where a JSON Web Key Set is fetched (RFC 7517).
	JWKSURL string
	// Discovery is the full URL of an OpenID provider configuration; its issuer
	// must equal Issuer, and its jwks_uri is fetched.
	Discovery string
	// JWKSFile is a file with a JSON Web Key Set of public keys.
	JWKSFile string
	// PEMFile holds one or more public keys or certificates. They have no kid:
	// every one that fits the token's algorithm is tried.
	PEMFile string
	// HMACFile holds a shared secret, raw, less one final newline.
	HMACFile string
	// JWKS is a key set in memory, for an issuer in the same process.
	JWKS []byte

	// Audiences: a token names at least one of them. Required, because a token
	// for any other service of the same issuer would be good here otherwise.
	Audiences []string
	// Algorithms is the allow-list: HS*, or any of RS*, PS*, ES*, EdDSA; never both.
	Algorithms []string
	// Claims names the claims; empty names are the defaults.
	Claims Claims
	// Tenant pins the issuer: it can speak for no other tenant. "" is no pin.
	Tenant string
	// RoleMap overrides VerifierOptions.RoleMap for this issuer. Nil inherits;
	// empty but not nil means that this issuer has none, so that its roles are
	// permission names.
	RoleMap map[string][]Permission
}

// Claims names the claims that make an Env. A name is looked up literally
// first, because some issuers use URLs, then as a dotted path.
type Claims struct {
	Tenant        string // default tenant_id
	Organization  string // default org_id
	Organizations string // default org_ids
	Roles         string // default roles
}

func (c Claims) withDefaults() Claims {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.Tenant, "tenant_id")
	set(&c.Organization, "org_id")
	set(&c.Organizations, "org_ids")
	set(&c.Roles, "roles")
	return c
}

// ValidateIssuers finds every problem of a configuration, addressed below
// /issuers and /roles. It touches neither files nor the network.
func ValidateIssuers(issuers []Issuer, roles map[string][]Permission) []fault.Violation {
	var out []fault.Violation
	bad := func(pointer, format string, args ...any) {
		out = append(out, fault.Violation{Pointer: pointer, Code: "invalid", Message: fmt.Sprintf(format, args...)})
	}
	if len(issuers) == 0 {
		bad("/issuers", "at least one issuer is needed, else nobody can call")
	}
	seen := map[string]bool{}
	for i, is := range issuers {
		at := fmt.Sprintf("/issuers/%d", i)
		switch {
		case is.Issuer == "":
			bad(at+"/issuer", "is required")
		case seen[is.Issuer]:
			bad(at+"/issuer", "is configured twice")
		}
		seen[is.Issuer] = true
		is.validateSource(at, bad)
		is.validateAlgorithms(at, bad)
		if len(is.Audiences) == 0 || slices.Contains(is.Audiences, "") {
			bad(at+"/audiences", "names at least one audience, none of them empty")
		}
		if is.Tenant != "" && checkID(is.Tenant) != nil {
			bad(at+"/tenant", "is not a tenant id")
		}
		validateRoles(at+"/roles", is.RoleMap, bad)
	}
	validateRoles("/roles", roles, bad)
	return out
}

type report func(pointer, format string, args ...any)

func (is Issuer) validateSource(at string, bad report) {
	sources := map[string]bool{
		"jwks_url": is.JWKSURL != "", "discovery": is.Discovery != "", "jwks_file": is.JWKSFile != "",
		"pem_file": is.PEMFile != "", "hmac_file": is.HMACFile != "", "jwks": len(is.JWKS) > 0,
	}
	var set []string
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if sources[name] {
			set = append(set, name)
		}
	}
	if len(set) != 1 {
		bad(at, "needs exactly one key source of jwks_url, discovery, jwks_file, pem_file, hmac_file; it has %d", len(set))
	}
	for name, raw := range map[string]string{"jwks_url": is.JWKSURL, "discovery": is.Discovery} {
		if raw == "" {
			continue
		}
		if u, err := url.Parse(raw); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			bad(at+"/"+name, "is not an http or https URL")
		}
	}
}

func (is Issuer) validateAlgorithms(at string, bad report) {
	if len(is.Algorithms) == 0 {
		bad(at+"/algorithms", "is required: name what this issuer signs with, such as ES256")
		return
	}
	var hmac, public bool
	for _, alg := range is.Algorithms {
		switch {
		case strings.EqualFold(alg, "none"):
			bad(at+"/algorithms", "must not contain none: anybody can make such a token")
		case algorithms[alg].check == nil:
			bad(at+"/algorithms", "%q is not one of HS256, HS384, HS512, RS*, PS*, ES*, EdDSA", alg)
		case algorithms[alg].hmac:
			hmac = true
		default:
			public = true
		}
	}
	switch {
	case hmac && public:
		// The mix is what lets a caller sign with the public key as a shared secret.
		bad(at+"/algorithms", "must not mix HMAC with public-key algorithms")
	case hmac && is.HMACFile == "":
		bad(at+"/algorithms", "HMAC needs an hmac_file")
	case public && is.HMACFile != "":
		bad(at+"/algorithms", "an hmac_file needs HS256, HS384 or HS512")
	}
}

func validateRoles(at string, roles map[string][]Permission, bad report) {
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		for i, p := range roles[role] {
			if !slices.Contains(Permissions(), p) {
				bad(fmt.Sprintf("%s/%s/%d", at, escapePointer(role), i), "%q is not a permission", string(p))
			}
		}
	}
}

// escapePointer escapes one token of a JSON pointer (RFC 6901).
func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}
