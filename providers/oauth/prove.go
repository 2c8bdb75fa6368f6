package oauth

import (
	"context"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// Prove implements connector.Grantor: a token that is at hand says nothing about a
// client secret that was changed since. The grant knows which one it was last used
// with; where that is another, it is refreshed, by the rules of any refresh.
func (m *Manager) Prove(ctx context.Context, ref connector.GrantRef, app providers.OAuthApp) error {
	if app.Flow != providers.FlowConsent || ref.GrantVersion == 0 {
		return nil // what is minted is minted with it; and without a consent there is nothing to refresh
	}
	bounded, cancel := context.WithTimeout(ctx, grantTimeout)
	stored, err := m.o.Grants.ReadGrant(bounded, ref.Tenant, ref.Connector)
	cancel()
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		m.Stats.GrantFaults.Add(1)
		return storage("the stored consent could not be read").error(0)
	}
	if g, ok := grantOf(stored); !ok || !g.belongs(app) || !g.refresh.IsSet() || g.proven(ref.Connector, app) {
		return nil // there is nothing to prove, or no way: the token's own source says so
	}
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		return ending().error(0)
	}
	m.work.Add(1)
	m.mu.Unlock()
	f := &flight{key: keyOf(ref, app), ref: ref, app: app, prove: true, done: make(chan struct{}), stuck: make(chan struct{})}
	go func() {
		defer m.work.Done()
		f.tok, f.err = m.fly(f)
		if f.err == nil {
			e := m.entry(f.key)
			e.mu.Lock()
			e.held, e.failed = f.tok, failure{}
			e.mu.Unlock()
		}
		close(f.done)
	}()
	select {
	case <-f.done:
	case <-f.stuck:
		return f.stuckBy.error(0)
	case <-ctx.Done():
		return late(ctx)
	}
	if f.err != nil {
		return f.err.error(0)
	}
	return nil
}
