package s3

import (
	"context"

	"github.com/patchbay-dev/patchbay/providers"
)

// Provider implements the kind s3.
type Provider struct {
	providers.Base
	schema *providers.Schema
	rt     providers.Runtime
}

// New returns the provider, without a way to the network: see [Provider.Bind].
func New() *Provider { return &Provider{schema: newSchema()} }

// Bind returns the provider with what the process gives its kinds: the transport,
// and the operator's endpoint ("s3" or "s3.api") for tenants that set none.
func (p *Provider) Bind(rt providers.Runtime) providers.Provider {
	q := *p
	q.rt = rt
	return &q
}

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Backend answers with the config as it is: what is set, no defaults. The
// operator's endpoint stands in for one that isn't set: an app that went to
// Amazon instead would ask another store than the test did.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	b := providers.Direct(c)
	if e := p.endpoint(c); e != "" {
		b.Params["endpoint"] = e
	}
	return b, nil
}

// endpoint is the tenant's, else the operator's, else "": Amazon's own.
func (p *Provider) endpoint(c providers.Config) string {
	if e := c.Text("endpoint"); e != "" {
		return e
	}
	return p.rt.Endpoint("s3", "api", "")
}

// TestConnection asks the bucket as deep as o.Level says:
//
//	1  connect (any answer at all), bucket (HEAD, and GET of one key where that
//	   tells more)
//	2  list: one key under the prefix
//	3  put, get, delete of a small object under the prefix, named
//	   .patchbay-test-<ulid>. Object lock and versions may keep traces of it:
//	   a warning then says so
//
// A key that may not list is a warning at every level: it may be meant for
// uploads only, which level 3 tries. Where the endpoint is the tenant's and the
// bucket's host name does not work, path-style addresses are tried once.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	k := newCheck(p, c)
	if k.insecure() {
		t.Note("tls", providers.Warned(providers.CodeUnencrypted,
			"The endpoint is http: objects travel in clear. The secret key itself is never sent."))
	}
	t.Step("connect", k.connect)
	t.Step("bucket", k.bucket)
	if t.Level() >= providers.LevelPermission {
		t.Step("list", k.list)
	}
	if t.Level() >= providers.LevelWrite {
		t.Step("put", k.put)
		t.Step("get", k.get)
		if k.written {
			t.Cleanup("delete", k.remove)
		}
	}
	return t.Report("Connected"), nil
}

// ImportConfig takes what vendors hand out (see vendorKeys) and lifts nested
// maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(vendorKeys(raw))
}
