package tenant

import (
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// lookup finds a claim: literally first, then as a dotted path. A path that
// runs through something other than an object is a claim of the wrong form.
func lookup(claims map[string]any, name string) (value any, found bool, err error) {
	if v, ok := claims[name]; ok {
		return v, true, nil
	}
	parts := strings.Split(name, ".")
	for i, part := range parts {
		v, ok := claims[part]
		if !ok {
			return nil, false, nil
		}
		if i == len(parts)-1 {
			return v, true, nil
		}
		if claims, ok = v.(map[string]any); !ok {
			return nil, false, malformedClaim(name)
		}
	}
	return nil, false, nil
}

// malformedClaim names the claim as configured, never what the token says.
func malformedClaim(name string) error {
	return fault.Newf(fault.Unauthenticated, "the token's claim %q is malformed", name)
}

// makeEnv turns verified claims into an Env. All that is wrong with the form
// is reported (401) before anything that the form doesn't allow (403).
func (is *issuer) makeEnv(claims jwt.MapClaims, expires time.Time) (*Env, error) {
	env := &Env{issuer: is.name, expires: expires}
	var err error
	if env.subject, err = claims.GetSubject(); err != nil {
		return nil, malformedClaim("sub")
	}
	if env.tenant, err = is.tenantOf(claims); err != nil {
		return nil, err
	}
	listed, err := is.organizationsOf(claims, env)
	if err != nil {
		return nil, err
	}
	if env.roles, err = is.rolesOf(claims); err != nil {
		return nil, err
	}
	if !is.pin.IsZero() && env.tenant != is.pin {
		return nil, fault.New(fault.PermissionDenied, "the token's issuer does not speak for this tenant")
	}
	switch {
	case env.organization.IsZero():
		if len(env.organizations) == 1 {
			env.organization = env.organizations[0]
		}
	case !listed:
		env.organizations = []OrganizationID{env.organization}
	case !env.Allows(env.organization):
		return nil, fault.New(fault.PermissionDenied, "the token's organization is not among those it allows")
	}
	env.permissions = is.permissionsOf(env.roles)
	return env, nil
}

func (is *issuer) tenantOf(claims jwt.MapClaims) (ID, error) {
	v, found, err := lookup(claims, is.claims.Tenant)
	switch {
	case err != nil:
		return ID{}, err
	case found:
		s, _ := v.(string)
		id, err := ParseID(s)
		if err != nil {
			return ID{}, malformedClaim(is.claims.Tenant)
		}
		return id, nil
	case is.pin.IsZero():
		return ID{}, fault.Newf(fault.Unauthenticated, "the token has no claim %q", is.claims.Tenant)
	default:
		return is.pin, nil
	}
}

// organizationsOf fills the organization, the allowed ones and whether all are
// allowed; listed tells whether the token names the allowed ones at all.
func (is *issuer) organizationsOf(claims jwt.MapClaims, env *Env) (listed bool, err error) {
	v, found, err := lookup(claims, is.claims.Organization)
	if err != nil {
		return false, err
	}
	if found {
		s, _ := v.(string)
		if env.organization, err = ParseOrganizationID(s); err != nil {
			return false, malformedClaim(is.claims.Organization)
		}
	}
	v, found, err = lookup(claims, is.claims.Organizations)
	if err != nil || !found {
		return false, err
	}
	list, ok := v.([]any)
	if !ok {
		return false, malformedClaim(is.claims.Organizations)
	}
	if len(list) == 1 && list[0] == "*" {
		env.all = true
		return true, nil
	}
	for _, item := range list {
		s, _ := item.(string)
		id, err := ParseOrganizationID(s)
		if err != nil {
			return false, malformedClaim(is.claims.Organizations)
		}
		if !slices.Contains(env.organizations, id) {
			env.organizations = append(env.organizations, id)
		}
	}
	return true, nil
}

func (is *issuer) rolesOf(claims jwt.MapClaims) ([]string, error) {
	v, found, err := lookup(claims, is.claims.Roles)
	if err != nil || !found {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		return strings.Fields(v), nil
	case []any:
		roles := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, malformedClaim(is.claims.Roles)
			}
			roles = append(roles, s)
		}
		return roles, nil
	default:
		return nil, malformedClaim(is.claims.Roles)
	}
}

// permissionsOf translates roles. A role that is spelled like a permission
// counts only where there is no map: with one, the operator has decided which
// of the issuer's names mean something here.
func (is *issuer) permissionsOf(roles []string) []Permission {
	var out []Permission
	for _, p := range Permissions() {
		for _, role := range roles {
			if (len(is.roleMap) == 0 && role == string(p)) || slices.Contains(is.roleMap[role], p) {
				out = append(out, p)
				break
			}
		}
	}
	return out
}
