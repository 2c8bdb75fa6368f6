package providers

import (
	"context"
	"maps"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Provider is the Go implementation of a kind. Implementations are stateless
// and safe for concurrent use; what they need beyond a Config (dialers,
// endpoints) is given to their constructors. Embed [Base] for the no-op methods.
type Provider interface {
	// Schema describes the kind. It returns the same pointer every time; nobody
	// modifies it.
	Schema() *Schema
	// Backend turns a decoded config into the answer for apps. It does no I/O
	// for kinds without tokens. Errors: fault.NeedsReauthorization,
	// fault.Unavailable.
	Backend(ctx context.Context, c Config) (Backend, error)
	// TestConnection reports how far the config works. It blocks for at most
	// 15 s. A test that ran and failed is a report, not an error.
	TestConnection(ctx context.Context, c Config, o TestOptions) (TestReport, error)
	// Activate and Deactivate run when the lifecycle does; an error stops it.
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
}

// Backend is the resolved answer: a complete config, ready for an SDK.
type Backend struct {
	// Params and Secrets together form "config" of the answer; their names are
	// disjoint.
	Params  map[string]any
	Secrets secret.Map
	// ExpiresAt is when a minted token ends; zero when nothing expires.
	ExpiresAt time.Time
}

// Base implements the optional methods of Provider as no-ops.
type Base struct{}

// TestConnection reports a single skipped step.
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

// TestOptions says how deep a test may go.
type TestOptions struct {
	Level int // 1 reach and authenticate; 2 the permission needed; 3 write or send
}

// TestReport is the outcome of a connection test. It holds no secret.
type TestReport struct {
	OK      bool       `json:"ok"`
	Message string     `json:"message"`
	Level   int        `json:"level"`
	Steps   []TestStep `json:"steps"`
}

// TestStep is one step of a test.
type TestStep struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn, fail, skip
	Code   string `json:"code,omitempty"`
	MS     int64  `json:"ms"`
	Hint   string `json:"hint,omitempty"`
	Fix    *Fix   `json:"fix,omitempty"`
}

// Fix is a change of params that one click applies.
type Fix struct {
	Label  string         `json:"label"`
	Params map[string]any `json:"params"`
}

// Direct is the Backend of kinds whose answer is their config as it is. The
// result shares no map with c.
func Direct(c Config) Backend {
	return Backend{Params: maps.Clone(c.Params), Secrets: c.Secrets.Clone()}
}
