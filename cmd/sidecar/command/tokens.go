package command

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/oauth"
	"github.com/patchbay-dev/patchbay/vault"
)

// tokenParts are what access tokens are minted with. cache and key are nil where
// nothing is shared.
type tokenParts struct {
	store  connector.Store
	grants oauth.GrantStore
	cache  oauth.TokenCache
	key    func(ctx context.Context) (oauth.CacheKey, error)
	out    *network
	log    *slog.Logger
}

// tokenParts of the real servers. Tokens are shared through Redis where there is a
// key to encrypt them with.
func (u *upstreams) tokenParts(cfg *config.Config, out *network, log *slog.Logger) tokenParts {
	t := tokenParts{store: u.store, grants: u.secrets, out: out, log: log}
	if u.redis != nil && cfg.CacheKey != "" {
		t.cache = u.redis
		t.key = func(ctx context.Context) (oauth.CacheKey, error) {
			id, key, err := u.secrets.CacheKey(ctx, cfg.CacheKey)
			return oauth.CacheKey{ID: id, Key: key}, err
		}
	}
	return t
}

// tokens adds the life of access tokens to the program: refreshes that are under
// way when it leaves are finished, because an issuer may have replaced a refresh
// token that is stored nowhere else yet.
func (p *program) tokens(t tokenParts) (*oauth.Manager, error) {
	m, err := oauth.New(oauth.Options{
		Lease: t.store, Grants: t.grants, Client: t.out.runtime.Client(), Cache: t.cache, CacheKey: t.key, Log: t.log,
	})
	if err != nil {
		return nil, err
	}
	p.finish = append(p.finish, m.Close)
	return m, nil
}

// tokenMetrics exposes what a Manager counts.
func tokenMetrics(r *obs.Registry, m *oauth.Manager) {
	s := &m.Stats
	for name, c := range map[string]struct {
		help string
		n    *atomic.Int64
	}{
		"oauth_refreshes_total":      {"Access tokens that an issuer gave for a refresh token.", &s.Refreshes},
		"oauth_mints_total":          {"Access tokens that an issuer gave for a client's own credentials.", &s.Mints},
		"oauth_shared_hits_total":    {"Fresh access tokens found in Redis.", &s.SharedHits},
		"oauth_grant_hits_total":     {"Fresh access tokens found in Vault.", &s.GrantHits},
		"oauth_shared_errors_total":  {"Calls of the shared token cache, or for its key, that failed.", &s.SharedErrors},
		"oauth_lease_waits_total":    {"Refreshes that another process was at already.", &s.LeaseWaits},
		"oauth_lease_faults_total":   {"Calls for a refresh's lease without an answer.", &s.LeaseFaults},
		"oauth_grant_faults_total":   {"Calls for a grant without an answer.", &s.GrantFaults},
		"oauth_lost_writes_total":    {"Answers of an issuer that another process had overtaken.", &s.LostWrites},
		"oauth_lost_grants_total":    {"Replaced refresh tokens that could not be stored.", &s.Lost},
		"oauth_outages_total":        {"Tries at an issuer that brought no clear answer.", &s.Outages},
		"oauth_refused_total":        {"Grants that an issuer refused.", &s.Refused},
		"oauth_client_refused_total": {"OAuth2 clients that an issuer refused.", &s.ClientRefused},
	} {
		r.CounterFunc(name, c.help, c.n.Load)
	}
	r.GaugeFunc("oauth_unstored_grants", "Replaced refresh tokens that wait to be stored.", func() float64 { return float64(s.Unstored.Load()) })
}

// driftEvery is how often states are held against grants: whoever looks at an app
// that has lost its mail is to find the reason in Settings. It costs two looks at
// indexes that are nearly empty.
const driftEvery = 5 * time.Second

// lifecycle adds the control plane's own work on connectors: tests now and then,
// and states that follow the grants. kinds are bound. dev leaves the tests out: it
// promises to need no network, and would show the example's made-up keys to a real
// vendor.
func (p *program) lifecycle(store connector.Store, secrets connector.Secrets, kinds *providers.Registry, tokens connector.Tokens, tests bool) error {
	svc, err := connector.NewService(connector.ServiceOptions{
		Store: store, Secrets: secrets, Kinds: kinds, NewPin: vault.NewPin, Tokens: tokens, Log: p.log,
	})
	if err != nil {
		return err
	}
	drift := housekeeping.NewDrift(housekeeping.DriftOptions{Grants: store, Service: svc, Log: p.log, Every: driftEvery})
	p.background("grants", drift.Run)
	p.metrics.CounterFunc("grants_aligned_total", "Connectors whose state was brought in line with their grant.", drift.Aligned.Load)
	p.metrics.CounterFunc("grant_drift_failures_total", "Passes over drifted grants that did not reach their end.", drift.Failures.Load)
	if !tests {
		return nil
	}
	retests := housekeeping.NewRetester(housekeeping.RetestOptions{Store: store, Service: svc, Log: p.log})
	p.background("retests", retests.Run)
	p.metrics.CounterFunc("retests_total", "Connection tests that housekeeping ran.", retests.Tests.Load)
	p.metrics.CounterFunc("retests_failed_total", "Connection tests of housekeeping that failed.", retests.Failed.Load)
	p.metrics.CounterFunc("connector_errors_total", "Connectors that a retest turned to error.", retests.Errors.Load)
	p.metrics.CounterFunc("retest_failures_total", "Retests that could not run.", retests.Failures.Load)
	p.metrics.CounterFunc("vendor_outages_total", "Outages of vendors that retests found.", retests.Outages)
	p.metrics.GaugeFunc("vendor_outages", "Vendors that seem to be down just now.", func() float64 { return float64(retests.OutagesNow()) })
	return nil
}
