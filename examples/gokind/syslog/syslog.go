package syslog

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
)

func init() { providers.Register(New()) }

// Provider implements the kind. It is safe for concurrent use.
type Provider struct {
	providers.Base
	schema *providers.Schema
	rt     providers.Runtime
}

// New returns the provider, which has no way to the network yet.
func New() *Provider { return &Provider{schema: newSchema()} }

// Bind returns the provider with a way to the network. A kind dials through it
// and never by itself: it is where the operator's egress policy is.
func (p *Provider) Bind(rt providers.Runtime) providers.Provider {
	q := *p
	q.rt = rt
	return &q
}

// Schema describes the kind. It is the same pointer every time.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Backend answers with the config as it is set.
func (p *Provider) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

// ImportConfig lifts nested maps; see providers.Schema.Flatten.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return p.schema.Flatten(raw)
}

// Activate refuses a collector without encryption that would get the token.
func (p *Provider) Activate(_ context.Context, c providers.Config) error {
	if !c.Bool("tls") && c.Secrets["token"].IsSet() {
		return providers.Errorf(providers.InvalidArgument, "the token would travel without encryption: switch tls on, or remove the token")
	}
	return nil
}

// TestConnection connects and agrees on TLS; at level 3 it sends a message.
// Syslog knows no answer, so that nobody can tell whether the token is right.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	host := c.Text("host")
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close() // the other side has everything already, or nothing
		}
	}()
	t.Step("connect", func(ctx context.Context) providers.Outcome {
		dialled, err := p.rt.Dial(ctx, "tcp", net.JoinHostPort(host, strconv.FormatInt(c.Int("port"), 10)))
		if err != nil {
			return providers.NetworkOutcome(err)
		}
		conn = dialled
		return providers.Good()
	})
	if c.Bool("tls") {
		t.Step("tls", func(ctx context.Context) providers.Outcome {
			session := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: p.rt.Roots, MinVersion: tls.VersionTLS12})
			conn = session
			if err := session.HandshakeContext(ctx); err != nil {
				return providers.NetworkOutcome(err)
			}
			return providers.Good()
		})
	} else {
		t.Note("tls", providers.Warned(providers.CodeUnencrypted, ""))
	}
	if t.Level() >= providers.LevelWrite {
		t.Step("send", func(ctx context.Context) providers.Outcome {
			deadline, _ := ctx.Deadline()
			if err := conn.SetDeadline(deadline); err != nil {
				return providers.NetworkOutcome(err)
			}
			if _, err := conn.Write(frame(message(c, time.Now()))); err != nil {
				return providers.NetworkOutcome(err)
			}
			return providers.Goodf("A message was sent. Look for it in the collector: syslog has no answer.")
		})
	}
	return t.Report("Connected"), nil
}

// message is one of facility user and severity informational (RFC 5424, 6). The
// token is an element of structured data, under the number that is reserved for
// examples (RFC 5612).
func message(c providers.Config, now time.Time) string {
	data := "-"
	if token := c.Secrets["token"]; token.IsSet() {
		data = `[token@32473 value="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(token.Reveal()) + `"]`
	}
	return fmt.Sprintf("<14>1 %s - %s - - %s Connection test", now.UTC().Format(time.RFC3339), c.Text("app_name"), data)
}

// frame counts octets, so that a message may hold line breaks (RFC 6587, 3.4.1).
func frame(m string) []byte { return []byte(strconv.Itoa(len(m)) + " " + m) }
