package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/resolver/rediscache"
	"github.com/patchbay-dev/patchbay/vault"
)

// upstreams are the real servers, opened but not necessarily reached.
type upstreams struct {
	store   *postgres.Store
	secrets *vault.Client
	redis   *rediscache.Client // nil: none configured
}

// openUpstreams makes the clients. None of them dials before it is asked, so a
// process starts while any of its upstreams is away.
func openUpstreams(ctx context.Context, cfg *config.Config, log *slog.Logger) (*upstreams, error) {
	u := &upstreams{}
	url, err := config.ReadSecret("postgres.url_file", cfg.Postgres.URLFile)
	if err != nil {
		return nil, err
	}
	if u.store, err = postgres.Open(ctx, postgres.Options{URL: url, MaxConns: int32(cfg.Postgres.MaxConns), Log: log}); err != nil {
		return nil, err
	}
	if u.secrets, err = vault.Open(ctx, vaultOptions(cfg)); err != nil {
		u.close()
		return nil, err
	}
	redis, err := cfg.Redis.URL()
	if err == nil && redis.IsSet() {
		var roots *x509.CertPool
		if roots, err = config.ReadCAs("redis.ca_file", cfg.Redis.CAFile); err != nil {
			u.close()
			return nil, err
		}
		u.redis, err = rediscache.Open(rediscache.Options{
			URL: redis, Mode: cfg.Redis.Mode, Addrs: cfg.Redis.Addrs, Master: cfg.Redis.Master, RootCAs: roots,
		})
	}
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *upstreams) close() {
	if u.redis != nil {
		_ = u.redis.Close() // on the way out
	}
	if u.secrets != nil {
		_ = u.secrets.Close() // on the way out
	}
	if u.store != nil {
		_ = u.store.Close() // on the way out
	}
}

func serveCommand(s streams, env environment) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Data plane: the local API beside an app", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, s, env, config.ModeServe)
			if err != nil {
				return err
			}
			return runServe(c.Context(), s, cfg)
		},
	}
}

// localListener opens the local API's address or socket.
func localListener(ctx context.Context, cfg *config.Config) (net.Listener, error) {
	if cfg.Local.Socket != "" {
		return httpapi.ListenUnix(cfg.Local.Socket)
	}
	return listener(ctx, cfg.Local.Listen, "PATCHBAY_LOCAL_LISTEN")
}

func runServe(ctx context.Context, s streams, cfg *config.Config) error {
	log := obs.NewLogger(s.err, cfg.Log.Level)
	kinds, err := builtin.Registry()
	if err != nil {
		return err
	}
	local, err := localListener(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }() // closed by its server as a rule
	probes, err := listener(ctx, cfg.Probes.Listen, "PATCHBAY_PROBES_LISTEN")
	if err != nil {
		return err
	}
	defer func() { _ = probes.Close() }() // closed by its server as a rule
	u, err := openUpstreams(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer u.close()
	o := planeOptions{
		config: cfg, issuers: issuersOf(cfg), kinds: kinds, log: log, store: u.store, secrets: u.secrets,
		local: local, unix: cfg.Local.Socket != "", probes: probes,
	}
	if u.redis != nil {
		o.shared, o.feed, o.redis = u.redis, u.redis, u.redis.Ping
	}
	p, err := newPlane(o)
	if err != nil {
		return err
	}
	p.announce = func() error {
		log.Info("the local API is up", "address", local.Addr().String(), "probes", probes.Addr().String())
		return nil
	}
	return p.run(ctx)
}

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
	u, err := openUpstreams(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer u.close()
	p := &program{log: log, drain: cfg.Drain}
	control, err := httpapi.NewAdmin(httpapi.AdminOptions{})
	if err != nil {
		return err
	}
	p.serve(control, admin)
	metrics := obs.NewRegistry()
	w := newWatch(log)
	w.add("postgres", func(ctx context.Context) error { _, err := u.store.Ping(ctx); return err })
	w.add("vault", u.secrets.Ready)
	p.background("dependencies", w.run)
	p.serveProbes(httpapi.NewProbes(httpapi.ProbesOptions{
		Metrics: metrics.Handler(),
		Live:    func() error { return nil },
		Ready: func() []httpapi.Dependency {
			return w.dependencies(func(name string) bool { return name == "postgres" })
		},
	}), probes)
	if u.redis != nil {
		p.background("relay", resolver.NewRelay(u.store, u.redis.NewPublisher(), log).Run)
	} else {
		log.Warn("no Redis is configured: sidecars learn of changes within their TTL only")
	}
	return p.run(ctx)
}

func migrateCommand(s streams, env environment) *cobra.Command {
	var status bool
	c := &cobra.Command{
		Use: "migrate", Short: "Bring the Postgres schema up to date, under an advisory lock", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, s, env, config.ModeMigrate)
			if err != nil {
				return err
			}
			url, err := config.ReadSecret("postgres.url_file", cfg.Postgres.URLFile)
			if err != nil {
				return err
			}
			if !status {
				return postgres.Migrate(c.Context(), url, obs.NewLogger(s.err, "info"))
			}
			states, err := postgres.MigrationStatus(c.Context(), url)
			if err != nil {
				return err
			}
			return printMigrations(s, states)
		},
	}
	c.Flags().BoolVar(&status, "status", false, "list the migrations instead")
	return c
}
