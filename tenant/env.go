package tenant

import (
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Permission is a right on the admin API.
type Permission string

// The permissions of DESIGN 3.5.
const (
	ConnectorsRead  Permission = "connectors.read"
	ConnectorsWrite Permission = "connectors.write"
	SecretsRead     Permission = "secrets.read"
	PlatformAdmin   Permission = "platform.admin"
)

// Permissions lists every permission.
func Permissions() []Permission {
	return []Permission{ConnectorsRead, ConnectorsWrite, SecretsRead, PlatformAdmin}
}

// Env is who asks. It is immutable and made only by a Verifier from a verified
// JWT; tests get theirs from tenanttest, which signs one. Envs are shared
// between requests, so accessors return copies of what they hold.
type Env struct {
	tenant        ID
	organization  OrganizationID
	organizations []OrganizationID
	all           bool
	subject       string
	issuer        string
	roles         []string
	permissions   []Permission
	expires       time.Time
	key           *key // that verified the token; never handed out
}

// Tenant is the tenant that the token speaks for.
func (e *Env) Tenant() ID { return e.tenant }

// Organization is the active organization; zero when none is active.
func (e *Env) Organization() OrganizationID { return e.organization }

// Organizations lists the allowed organizations; empty with AllOrganizations.
func (e *Env) Organizations() []OrganizationID { return slices.Clone(e.organizations) }

// AllOrganizations tells whether the env reaches the whole tenant ("*").
func (e *Env) AllOrganizations() bool { return e.all }

// Subject is the token's sub claim, "" when absent.
func (e *Env) Subject() string { return e.subject }

// Issuer is the configured issuer that signed the token.
func (e *Env) Issuer() string { return e.issuer }

// Roles are the role names as the issuer wrote them.
func (e *Env) Roles() []string { return slices.Clone(e.roles) }

// ExpiresAt is the token's exp.
func (e *Env) ExpiresAt() time.Time { return e.expires }

// Live tells whether the token that made this Env would still do without being
// verified again: it has not expired, and its key is still its issuer's. No
// leeway for clock skew is given here: past exp a token is verified anew.
func (e *Env) Live(now time.Time) bool {
	return e.key != nil && !e.key.gone.Load() && now.Before(e.expires)
}

// Can tells whether the env's roles grant p.
func (e *Env) Can(p Permission) bool { return slices.Contains(e.permissions, p) }

// Allows tells whether org is among the allowed organizations.
func (e *Env) Allows(org OrganizationID) bool {
	return e.all || slices.Contains(e.organizations, org)
}

// Choose returns the organization that a request runs for: the active one when
// chosen is "", else the chosen one if it is allowed. It allocates nothing when
// the choice is among the env's own.
// Errors: fault.InvalidArgument for a malformed id, fault.PermissionDenied for
// one outside the allowed.
func (e *Env) Choose(chosen string) (OrganizationID, error) {
	if chosen == "" {
		return e.organization, nil
	}
	for _, o := range e.organizations {
		if o.s == chosen {
			return o, nil
		}
	}
	if err := checkID(chosen); err != nil {
		return OrganizationID{}, err
	}
	if !e.all {
		return OrganizationID{}, fault.New(fault.PermissionDenied, "the token does not allow this organization")
	}
	// chosen may alias a request buffer: the copy outlives the request.
	return ParseOrganizationID(string([]byte(chosen)))
}
