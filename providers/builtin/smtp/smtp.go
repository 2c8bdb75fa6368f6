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
	rt     providers.Runtime
}

// New returns the provider, without a way to the network: see [Provider.Bind].
func New() *Provider { return &Provider{schema: newSchema()} }

// Bind returns the provider with what the process gives its kinds: the dialler,
// the roots that verify servers, and the host name of the EHLO.
func (p *Provider) Bind(rt providers.Runtime) providers.Provider {
	q := *p
	q.rt = rt
	return &q
}

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Backend answers with the config, port and auth by their defaults, and always
// with tls: where none was chosen, 465 is implicit and every other port
// starttls. Every app would have to make that choice again, and some would
// choose none.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	b := providers.Direct(c)
	b.Params["tls"] = modeOf(c)
	return b, nil
}

// modeOf is the TLS mode of a config: the chosen one, else that of the port.
func modeOf(c providers.Config) string {
	if mode := c.Text("tls"); mode != "" {
		return mode
	}
	if c.Int("port") == submissionsPort {
		return Implicit
	}
	return STARTTLS
}

// TestConnection runs the conversation up to where o.Level says:
//
//	1  connect, tls and certificate (implicit), greeting, ehlo, starttls and
//	   certificate and ehlo_tls (STARTTLS) or tls (none), auth, noop
//	2  sender (MAIL FROM), recipient (RCPT TO), reset (RSET): nothing is sent
//	3  message: a small mail to o.Recipient, else to the sender
//
// The sender is the param from, else a username that is an address. No secret
// leaves before the connection is encrypted and the certificate is verified,
// unless the admin chose the mode none. Every reply is bounded; another mode or
// port is tried once where that can tell what is wrong, without credentials.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	s := newSession(p.rt, c)
	defer s.close()
	t.Step("connect", s.connect)
	if s.mode == Implicit {
		t.Step("tls", s.implicitTLS)
		t.Step("certificate", s.certificate)
	}
	t.Step("greeting", s.greeting)
	t.Step("ehlo", s.hello)
	switch s.mode {
	case STARTTLS:
		t.Step("starttls", s.startTLS)
		t.Step("certificate", s.certificate)
		t.Step("ehlo_tls", s.hello)
	case None:
		t.Step("tls", s.unencrypted)
	}
	t.Step("auth", s.authenticate)
	t.Step("noop", s.noop)
	if t.Level() >= providers.LevelPermission {
		s.addresses(o.Recipient)
		t.Step("sender", s.mailFrom)
		t.Step("recipient", s.rcptTo)
		t.Step("reset", s.reset)
	}
	if t.Level() >= providers.LevelWrite {
		t.Step("message", s.send)
	}
	s.quit(ctx)
	return t.Report("Connected"), nil
}

// ImportConfig lifts nested maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(raw)
}
