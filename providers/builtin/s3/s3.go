package s3

import (
	"context"

	"github.com/patchbay-dev/patchbay/providers"
)

// Provider implements the kind s3.
type Provider struct {
	providers.Base
	schema *providers.Schema
}

// New returns the provider.
func New() *Provider { return &Provider{schema: newSchema()} }

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Backend answers with the config as it is: what is set, no defaults.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

// ImportConfig lifts nested maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(raw)
}
