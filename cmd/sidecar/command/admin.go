package command

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

func adminCommand(s streams, env environment) *cobra.Command {
	return &cobra.Command{
		Use: "admin", Short: "Control plane: change relay and housekeeping", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, s, env, config.ModeAdmin)
			if err != nil {
				return err
			}
			return runAdmin(c.Context(), s, cfg)
		},
	}
}

func runAdmin(ctx context.Context, s streams, cfg *config.Config) error {
	log := obs.NewLogger(s.err, cfg.Log.Level)
	kinds, err := loadKinds(cfg, logKind(log))
	if err != nil {
		return err
	}
	admin, err := listener(ctx, cfg.Admin.Listen, "PATCHBAY_ADMIN_LISTEN")
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }() // closed by its server as a rule
	probes, err := listener(ctx, cfg.Probes.Listen, "PATCHBAY_PROBES_LISTEN")
	if err != nil {
		return err
	}
	defer func() { _ = probes.Close() }() // closed by its server as a rule
	// The relay holds a connection while it sends, and the sweeper one for its lock
	// while it asks with another: with less they would wait for each other.
	cfg.Postgres.MaxConns = max(cfg.Postgres.MaxConns, 3)
	u, err := openUpstreams(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer u.close()
	p := &program{log: log, drain: cfg.Drain, metrics: obs.NewRegistry()}
	verifier, err := newVerifier(cfg, issuersOf(cfg), log)
	if err != nil {
		return err
	}
	p.background("keys", verifier.Run)
	w := newWatch(log)
	w.add("postgres", func(ctx context.Context) error { _, err := u.store.Ping(ctx); return err })
	w.add("vault", u.secrets.Ready)
	if u.redis != nil {
		w.add("redis", u.redis.Ping)
	}
	p.background("dependencies", w.run)
	p.serveProbes(httpapi.NewProbes(httpapi.ProbesOptions{
		Metrics: p.metrics.Handler(),
		Live:    func() error { return nil },
		Ready: func() []httpapi.Dependency {
			// Nobody could ask for anything before there are keys to verify them by.
			deps := append(w.dependencies(func(name string) bool { return name == "postgres" }), issuersReady(verifier)...)
			return p.leaving(deps)
		},
	}), probes)
	p.sweeper(u.store, u.secrets)
	vaultMetrics(p.metrics, u.secrets)
	out, err := newNetwork(cfg, log, u.ownServers(cfg), admin, probes)
	if err != nil {
		return err
	}
	tokens, err := p.tokens(u.tokenParts(cfg, out, log))
	if err != nil {
		return err
	}
	tokenMetrics(p.metrics, tokens)
	bound := kinds.Bind(out.runtime)
	svc, err := newService(u.store, u.secrets, bound, tokens, log)
	if err != nil {
		return err
	}
	p.lifecycle(u.store, svc, true)
	control, err := httpapi.NewAdmin(httpapi.AdminOptions{API: adminOptions(cfg, verifier, svc, newImporter(u.store, u.secrets, bound, nil), bound, p)})
	if err != nil {
		return wrongConfig(err)
	}
	p.serve(control, admin)
	if u.redis != nil {
		relay := resolver.NewRelay(u.store, u.redis.NewPublisher(), log)
		relayMetrics(p.metrics, relay)
		p.background("relay", relay.Run)
	} else {
		log.Warn("no Redis is configured: sidecars learn of changes within their TTL only")
	}
	p.announce = func() error {
		log.Info("the control plane is up", "address", admin.Addr().String(), "probes", probes.Addr().String())
		return nil
	}
	return p.run(ctx)
}

// sweeper adds the removal of secrets that nothing refers to, and of tenants whose
// date has come.
func (p *program) sweeper(store connector.Store, secrets vault.Store) {
	s := housekeeping.New(housekeeping.Options{Store: store, Secrets: secrets, Log: p.log})
	p.metrics.CounterFunc("secrets_deleted_total", "Unreferenced secret bundles soft-deleted.", s.Deleted.Load)
	p.metrics.CounterFunc("secrets_destroyed_total", "Soft-deleted secret bundles destroyed.", s.Destroyed.Load)
	p.metrics.CounterFunc("grants_forgotten_total", "OAuth2 grants that nothing may use any more, taken out of the secret store.", s.Forgotten.Load)
	p.metrics.CounterFunc("secret_sweep_failures_total", "Sweeps that did not reach their end.", s.Failures.Load)
	p.background("sweeper", s.Run)
	g := housekeeping.NewPurger(housekeeping.PurgerOptions{Store: store, Secrets: secrets, Log: p.log})
	p.metrics.CounterFunc("tenants_purged_total", "Deleted tenants whose records and secrets are gone for good.", g.Purged.Load)
	p.metrics.CounterFunc("tenant_purge_failures_total", "Passes over deleted tenants that did not reach their end.", g.Failures.Load)
	p.background("purger", g.Run)
}

// driftEvery is how often states are held against grants: whoever looks at an app
// that has lost its mail is to find the reason in Settings. It costs two looks at
// indexes that are nearly empty.
const driftEvery = 5 * time.Second

// newService is the one Service of a control plane: the API, housekeeping and the
// limits on tests share it. kinds are bound.
func newService(store connector.Store, secrets connector.Secrets, kinds *providers.Registry, tokens connector.Grantor, log *slog.Logger) (*connector.Service, error) {
	return connector.NewService(connector.ServiceOptions{
		Store: store, Secrets: secrets, Kinds: kinds, NewPin: vault.NewPin, Tokens: tokens, Log: log,
	})
}

// adminOptions are the admin API's.
func adminOptions(cfg *config.Config, verifier *tenant.Verifier, svc *connector.Service, files *importer.Importer, kinds *providers.Registry, p *program) *adminapi.Options {
	return &adminapi.Options{
		Files:    files,
		Verifier: verifier, Service: svc, Kinds: kinds, Log: p.log, Registry: p.metrics, Version: version, PublicURL: cfg.Admin.PublicURL,
		RequestsPerSecond: cfg.Limits.AdminRequestsPerSecond, Burst: cfg.Limits.AdminBurst,
	}
}

// lifecycle adds the control plane's own work on connectors: tests now and then,
// and states that follow the grants. dev leaves the tests out: it promises to need
// no network, and would show the example's made-up keys to a real vendor.
func (p *program) lifecycle(store connector.Store, svc *connector.Service, tests bool) {
	drift := housekeeping.NewDrift(housekeeping.DriftOptions{Grants: store, Service: svc, Log: p.log, Every: driftEvery})
	p.background("grants", drift.Run)
	p.metrics.CounterFunc("grants_aligned_total", "Connectors whose state was brought in line with their grant.", drift.Aligned.Load)
	p.metrics.CounterFunc("grant_drift_failures_total", "Passes over drifted grants that did not reach their end.", drift.Failures.Load)
	expiry := housekeeping.NewExpiry(housekeeping.ExpiryOptions{Store: store, Log: p.log})
	p.background("expiry", expiry.Run)
	p.metrics.CounterFunc("idempotency_keys_swept_total", "Idempotency keys past their end that were deleted.", expiry.Requests.Load)
	p.metrics.CounterFunc("consents_swept_total", "OAuth2 consents past their end that were deleted.", expiry.Consents.Load)
	p.metrics.CounterFunc("audit_swept_total", "Audit entries past their retention that were deleted.", expiry.Audit.Load)
	p.metrics.CounterFunc("expiry_failures_total", "Passes over what has ended that did not reach their end.", expiry.Failures.Load)
	if !tests {
		return
	}
	retests := housekeeping.NewRetester(housekeeping.RetestOptions{Store: store, Service: svc, Log: p.log})
	p.background("retests", retests.Run)
	p.metrics.CounterFunc("retests_total", "Connection tests that housekeeping ran.", retests.Tests.Load)
	p.metrics.CounterFunc("retests_failed_total", "Connection tests of housekeeping that failed.", retests.Failed.Load)
	p.metrics.CounterFunc("connector_errors_total", "Connectors that a retest turned to error.", retests.Errors.Load)
	p.metrics.CounterFunc("retest_failures_total", "Retests that could not run.", retests.Failures.Load)
	p.metrics.CounterFunc("vendor_outages_total", "Outages of vendors that retests found.", retests.Outages)
	p.metrics.GaugeFunc("vendor_outages", "Vendors that seem to be down just now.", func() float64 { return float64(retests.OutagesNow()) })
}

// relayMetrics exposes what a relay counts.
func relayMetrics(m *obs.Registry, r *resolver.Relay) {
	m.CounterFunc("relay_sent_total", "Changes announced to sidecars.", r.Sent.Load)
	m.CounterFunc("relay_replayed_total", "Changes announced again after Redis may have lost them.", r.Replayed.Load)
	m.CounterFunc("relay_heartbeats_total", "Heartbeats published.", r.Beats.Load)
	m.CounterFunc("relay_failures_total", "Passes that Postgres or Redis interrupted.", r.Failures.Load)
}
