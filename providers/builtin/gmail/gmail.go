package gmail

import (
	"context"
	"net/mail"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
)

// Provider implements the kind gmail_oauth2. Its endpoints, for the operator to
// override, are "auth", "token" and "revoke" (whole URLs), "api" (the base of
// the Gmail API) and "userinfo" (the base of OpenID Connect's).
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

// OAuth describes the client. Every config needs a consent.
func (p *Provider) OAuth(c providers.Config) (providers.OAuthApp, bool, error) {
	params := map[string]string{}
	if a, err := mail.ParseAddress(c.Text("sender")); err == nil {
		// Google then offers this account first: people have several.
		params["login_hint"] = a.Address
	}
	c.Kind = kind
	return google.ConsentApp(p.rt, c, scopes(), params), true, nil
}

// Backend answers with the config and a fresh access_token. Errors:
// *providers.TokenError.
func (p *Provider) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	return providers.WithToken(ctx, c)
}

// ImportConfig reads credentials.json of an OAuth client (the sorts web and
// installed), and lifts nested maps; see providers.Schema.Flatten. Errors:
// fault.InvalidArgument, for a service account's key too: Gmail has mailboxes of
// people only.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	f, err := google.ReadFile(raw, google.Declared(p.schema))
	if err != nil {
		return nil, err
	}
	if f.ServiceAccount != "" {
		return nil, fault.New(fault.InvalidArgument, "the credentials file can't be imported").WithViolations(fault.Violation{
			Pointer: "/params", Code: "wrong_file",
			Message: "this is a service account's key, which has no mailbox; this kind wants the file of an OAuth client",
		})
	}
	flat, err := p.schema.Flatten(f.Rest)
	if err != nil {
		return nil, err
	}
	return google.Merge(flat, f.Client)
}
