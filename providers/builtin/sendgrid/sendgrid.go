package sendgrid

import (
	"context"

	"github.com/patchbay-dev/patchbay/providers"
)

// Provider implements the kind sendgrid. Its endpoints, for the operator to
// override, are "global" and "eu": base URLs of the API.
type Provider struct {
	providers.Base
	schema *providers.Schema
	rt     providers.Runtime
}

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

// Backend answers with the config as it is.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

// ImportConfig lifts nested maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(raw)
}
