package command

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers/oauth"
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
