package gdrive

import (
	"context"
	"encoding/json"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
)

// Provider implements the kind google_drive. Its endpoints, for the operator to
// override, are "auth", "token" and "revoke" (whole URLs) and "api" (the base of
// the Drive API).
type Provider struct {
	providers.Base
	schema *providers.Schema
	rt     providers.Runtime
}

var _ providers.Authorizer = (*Provider)(nil)

// New returns the provider, which has no way to the network yet.
func New() *Provider { return &Provider{schema: newSchema()} }

// Bind returns the provider with a way to the network.
func (p *Provider) Bind(rt providers.Runtime) providers.Provider {
	q := *p
	q.rt = rt
	return &q
}

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// OAuth describes the client: an OAuth client with a consent, or a service
// account that signs assertions for itself or, with subject, for a user. Where
// the assertion goes is Google's or the operator's, whatever the key file says.
// Errors: fault.InvalidArgument for a key file that can't be used.
func (p *Provider) OAuth(c providers.Config) (providers.OAuthApp, bool, error) {
	c.Kind = kind
	if c.Text("auth") != ServiceAccount {
		return google.ConsentApp(p.rt, c, scopes(), nil), true, nil
	}
	a, problem := google.ReadServiceAccount(c.Secrets["service_account_json"])
	if problem != nil {
		return providers.OAuthApp{}, false, problem.Fault("service_account_json")
	}
	return providers.OAuthApp{
		Flow:      providers.FlowJWTBearer,
		ClientID:  a.Email,
		TokenURL:  google.TokenURL(p.rt, kind),
		Scopes:    scopes(),
		Assertion: &providers.Assertion{Issuer: a.Email, Subject: c.Text("subject"), KeyID: a.KeyID, Key: a.Key},
	}, true, nil
}

// Backend answers with the config and a fresh access_token. Errors:
// *providers.TokenError.
func (p *Provider) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	return providers.WithToken(ctx, c)
}

// ImportConfig reads credentials.json of an OAuth client (the sorts web and
// installed) and the key file of a service account, and lifts nested maps; see
// providers.Schema.Flatten. Errors: fault.InvalidArgument.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	f, err := google.ReadFile(raw, google.Declared(p.schema))
	if err != nil {
		return nil, err
	}
	flat, err := p.schema.Flatten(f.Rest)
	if err != nil {
		return nil, err
	}
	// The key file may have been parsed on the way here.
	if m, ok := flat["service_account_json"].(map[string]any); ok {
		text, err := json.Marshal(m)
		if err != nil {
			return nil, (&google.AccountError{Message: "holds something that is no JSON"}).Fault("service_account_json")
		}
		flat["service_account_json"] = string(text)
	}
	if f.ServiceAccount != "" {
		if _, problem := google.ReadServiceAccount(secret.New(f.ServiceAccount)); problem != nil {
			return nil, problem.Fault("service_account_json")
		}
		return google.Merge(flat, map[string]any{"auth": ServiceAccount, "service_account_json": f.ServiceAccount})
	}
	return google.Merge(flat, f.Client)
}
