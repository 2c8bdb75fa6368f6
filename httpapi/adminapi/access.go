package adminapi

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The metadata of operations.
const (
	metaPermission = "permission" // tenant.Permission; an operation without one is public
	metaTimeout    = "timeout"    // time.Duration
	metaAnyQuery   = "any_query"  // true: somebody else's redirect brings what it likes
)

// enter is before every operation: who asks, whether they may, how often, and
// whether the parameters are those of the operation. Permission comes before
// existence, and before anything that the request says is looked at.
func (a *API) enter(ctx huma.Context, next func(huma.Context)) {
	c := humafiber.Unwrap(ctx)
	k, _ := c.Locals(localsCall).(*call)
	k.op = ctx.Operation()
	timeout := requestTimeout
	if d, ok := k.op.Metadata[metaTimeout].(time.Duration); ok {
		timeout = d
	}
	// The server's own context ends with the server, not with the request.
	base, cancel := context.WithTimeout(context.WithValue(context.Background(), callKey{}, k), timeout)
	defer cancel()
	if permission, ok := k.op.Metadata[metaPermission].(tenant.Permission); ok {
		if err := a.admit(base, k, permission); err != nil {
			k.fail(err)
			return
		}
	}
	if err := k.checkParameters(); err != nil {
		k.fail(err)
		return
	}
	next(huma.WithContext(ctx, base))
}

// admit authenticates and authorizes.
// Errors: fault.Unauthenticated, fault.PermissionDenied, fault.RateLimited,
// fault.Unavailable.
func (a *API) admit(ctx context.Context, k *call, permission tenant.Permission) error {
	token, err := k.bearer()
	if err != nil {
		return err
	}
	if k.env, err = a.o.Verifier.Verify(ctx, token); err != nil {
		k.env = nil
		return err
	}
	if k.scope, err = k.scopeOf(); err != nil {
		return err
	}
	if !k.can(permission) {
		return fault.Newf(fault.PermissionDenied, "this needs the permission %s", string(permission))
	}
	// Who may not ask takes nothing from those who may.
	if wait := a.rates.take(k.scope.Tenant, k.begun); wait > 0 {
		return fault.New(fault.RateLimited, "the tenant asks more often than it may").WithRetryAfter(wait)
	}
	return nil
}

// can tells whether the caller has a permission. The operator's covers what
// tenants' admins do, but not the sight of their secrets: those are shown to tokens
// of their own tenant alone.
func (k *call) can(p tenant.Permission) bool {
	if p == tenant.SecretsRead {
		return k.env.Can(p) && k.scope.Tenant == k.env.Tenant()
	}
	return k.env.Can(p) || k.env.Can(tenant.PlatformAdmin)
}

func (k *call) bearer() (string, error) {
	given := k.c.Request().Header.PeekAll("Authorization")
	if len(given) != 1 {
		return "", fault.New(fault.Unauthenticated, "the request needs one Authorization header with a JWT")
	}
	scheme, token, found := strings.Cut(string(given[0]), " ")
	if token = strings.TrimSpace(token); !found || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fault.New(fault.Unauthenticated, "the Authorization header must be Bearer with a JWT")
	}
	return token, nil
}

// scopeOf is how far the caller reaches: as the token says, or the whole of the
// tenant that a platform's operator names.
func (k *call) scopeOf() (connector.Scope, error) {
	sc := connector.ScopeOf(k.env, k.id)
	sc.Platform = k.env.Can(tenant.PlatformAdmin)
	named := k.c.Request().Header.PeekAll(headerTenant)
	if len(named) == 0 {
		return sc, nil
	}
	// A name that the caller may not use is not looked at.
	if !sc.Platform && (len(named) != 1 || string(named[0]) != sc.Tenant.String()) {
		return sc, fault.New(fault.PermissionDenied, "only the platform's operator names a tenant")
	}
	id, err := tenant.ParseID(string(named[0]))
	if err != nil || len(named) != 1 {
		return sc, fault.New(fault.InvalidArgument, "the tenant that is named can't be one").
			WithViolations(fault.Violation{Pointer: "/header/" + headerTenant, Code: "format", Message: "must be one tenant id"})
	}
	if sc.Platform {
		sc.Tenant, sc.AllOrganizations, sc.Organizations = id, true, nil
	}
	return sc, nil
}

// checkParameters refuses what huma overlooks: unknown and repeated query
// parameters, of which one reader takes the first and another the last.
func (k *call) checkParameters() error {
	if k.op.Metadata[metaAnyQuery] == true {
		return nil
	}
	var known []string
	for _, p := range k.op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	var bad []fault.Violation
	seen := map[string]bool{}
	for key, value := range k.c.Context().QueryArgs().All() {
		name := string(key)
		v := fault.Violation{Pointer: "/query/" + name}
		switch {
		case !slices.Contains(known, name):
			v.Code, v.Message = "unknown", "is unknown"
			if near := providers.Suggest(name, known); near != "" {
				v.Message += "; did you mean " + near + "?"
			}
		case seen[name]:
			v.Code, v.Message = "duplicate", "is given twice"
		case !utf8.Valid(value) || bytes.ContainsFunc(value, unicode.IsControl):
			v.Code, v.Message = "format", "must be text on one line"
		}
		if v.Code != "" && !seen[name+"\x00"] {
			bad = append(bad, v)
			seen[name+"\x00"] = true
		}
		seen[name] = true
	}
	if len(bad) > 0 {
		return fault.New(fault.InvalidArgument, "the query has a problem").WithViolations(bad...)
	}
	return nil
}
