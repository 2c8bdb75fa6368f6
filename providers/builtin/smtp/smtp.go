package smtp

import (
	"context"

	"github.com/patchbay-dev/patchbay/providers"
)

// The TLS modes of the param tls.
const (
	Implicit = "implicit" // TLS from the first byte, RFC 8314
	STARTTLS = "starttls" // RFC 3207
	None     = "none"     // in clear
)

// The ports that decide a TLS mode or are the default (RFC 8314, RFC 6409).
const (
	submissionsPort = 465
	submissionPort  = 587
)

// Provider implements the kind smtp.
type Provider struct {
	providers.Base
	schema *providers.Schema
}

// New returns the provider.
func New() *Provider { return &Provider{schema: newSchema()} }

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Backend answers with the config, port and auth by their defaults, and always
// with tls: where none was chosen, 465 is implicit and every other port
// starttls. Every app would have to make that choice again, and some would
// choose none.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	b := providers.Direct(c)
	if _, chosen := b.Params["tls"]; !chosen {
		b.Params["tls"] = modeOf(b.Params["port"])
	}
	return b, nil
}

func modeOf(port any) string {
	if port == int64(submissionsPort) {
		return Implicit
	}
	return STARTTLS
}

// ImportConfig lifts nested maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(raw)
}
