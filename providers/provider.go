package providers

import (
	"context"
	"maps"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Provider is the Go implementation of a kind. Implementations are stateless
// and safe for concurrent use; what they need beyond a Config (a way to the
// network, endpoints) comes by [Binder]. Embed [Base] for the no-op methods.
type Provider interface {
	// Schema describes the kind. It returns the same pointer every time; nobody
	// modifies it.
	Schema() *Schema
	// Backend turns a decoded config into the answer for apps. It does no I/O
	// for kinds without tokens. Errors: fault.NeedsReauthorization,
	// fault.Unavailable.
	Backend(ctx context.Context, c Config) (Backend, error)
	// TestConnection reports how far the config works; see [NewTest]. It blocks
	// for at most [TestTimeout]. A test that ran and failed is a report, not an
	// error: an error means that it could not run.
	TestConnection(ctx context.Context, c Config, o TestOptions) (TestReport, error)
	// Activate and Deactivate run when the lifecycle does; an error stops it. While
	// the secrets can't be read Deactivate is left out: switching off must not wait.
	Activate(ctx context.Context, c Config) error
	Deactivate(ctx context.Context, c Config) error
	// ImportConfig normalises a nested map (a vendor's own file, or the dotted
	// keys of ir.connector.param) into flat params and secrets, not yet decoded.
	ImportConfig(ctx context.Context, raw map[string]any) (map[string]any, error)
}

// Config is what Decode returns and a provider works with: canonical, complete
// (defaults filled in), valid.
type Config struct {
	Kind    Kind
	Params  map[string]any // canonical values, see Schema.Decode
	Secrets secret.Map
	// Tokens gives the connector's access token; nil where the kind mints none, or
	// where nothing is stored yet.
	Tokens TokenSource
}

// Text returns a param's text, "" when it is unset or none.
func (c Config) Text(name string) string {
	s, _ := c.Params[name].(string)
	return s
}

// Int returns a whole number, 0 when it is unset or none.
func (c Config) Int(name string) int64 {
	n, _ := c.Params[name].(int64)
	return n
}

// Bool returns a truth value, false when it is unset or none.
func (c Config) Bool(name string) bool {
	b, _ := c.Params[name].(bool)
	return b
}

// Token asks Tokens. Errors: *TokenError, CodeConsentMissing without Tokens.
func (c Config) Token(ctx context.Context) (Token, error) {
	if c.Tokens == nil {
		return Token{}, &TokenError{Code: CodeConsentMissing,
			Err: fault.New(fault.NeedsReauthorization, "no account is connected yet")}
	}
	return c.Tokens.Token(ctx)
}

// Backend is the resolved answer: a complete config, ready for an SDK.
type Backend struct {
	// Params and Secrets together form "config" of the answer; their names are
	// disjoint.
	Params  map[string]any
	Secrets secret.Map
	// ExpiresAt is when a minted token ends; zero when nothing expires.
	ExpiresAt time.Time
	// RefreshAt is when the backend should be made anew, so that a fresh token is
	// at hand before the old one ends; zero when nothing expires.
	RefreshAt time.Time
}

// Base implements the optional methods of Provider as no-ops.
type Base struct{}

// TestConnection reports that there is nothing to test.
func (Base) TestConnection(context.Context, Config, TestOptions) (TestReport, error) {
	return TestReport{OK: true, Message: "This kind has no connection test", Steps: []TestStep{}}, nil
}

// Activate does nothing.
func (Base) Activate(context.Context, Config) error { return nil }

// Deactivate does nothing.
func (Base) Deactivate(context.Context, Config) error { return nil }

// ImportConfig returns raw as it is.
func (Base) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return raw, nil
}

// Direct is the Backend of kinds whose answer is their config as it is. The
// result shares no map with c.
func Direct(c Config) Backend {
	return Backend{Params: maps.Clone(c.Params), Secrets: c.Secrets.Clone()}
}

// WithToken is Direct with the access token as the secret access_token, and with
// its end. Errors: *TokenError.
func WithToken(ctx context.Context, c Config) (Backend, error) {
	t, err := c.Token(ctx)
	if err != nil {
		return Backend{}, err
	}
	b := Direct(c)
	if b.Secrets == nil {
		b.Secrets = secret.Map{}
	}
	b.Secrets["access_token"] = t.Access
	b.ExpiresAt, b.RefreshAt = t.ExpiresAt, t.RefreshAt
	return b, nil
}
