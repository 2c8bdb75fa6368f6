package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/resolver/rediscache"
	"github.com/patchbay-dev/patchbay/vault"
)

// upstreams are the real servers, opened but not necessarily reached.
type upstreams struct {
	store   *postgres.Store
	secrets *vault.Client
	callers *vault.Callers     // instead of secrets, where every caller brings its own right
	redis   *rediscache.Client // nil: none configured
}

// openUpstreams makes the clients. None of them dials before it is asked, so a
// process starts while any of its upstreams is away. What a credential file holds
// is config: an error of it is wrong usage.
func openUpstreams(ctx context.Context, cfg *config.Config, log *slog.Logger) (*upstreams, error) {
	u := &upstreams{}
	if err := u.open(ctx, cfg, log); err != nil {
		u.close()
		return nil, wrongConfig(err)
	}
	return u, nil
}

func (u *upstreams) open(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	url, err := config.ReadSecret("postgres.url_file", cfg.Postgres.URLFile)
	if err != nil {
		return err
	}
	if u.store, err = postgres.Open(ctx, postgres.Options{URL: url, MaxConns: int32(cfg.Postgres.MaxConns), Log: log}); err != nil {
		return fmt.Errorf("postgres.url_file: %w", err)
	}
	if o := vaultOptions(cfg); o.Auth.Method == vault.AuthCallerJWT {
		u.callers, err = vault.OpenCallers(ctx, o)
	} else {
		u.secrets, err = vault.Open(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	redis, err := cfg.Redis.URL()
	if err != nil || !redis.IsSet() {
		return err
	}
	roots, err := config.ReadCAs("redis.ca_file", cfg.Redis.CAFile)
	if err != nil {
		return err
	}
	u.redis, err = rediscache.Open(rediscache.Options{
		URL: redis, Mode: cfg.Redis.Mode, Addrs: cfg.Redis.Addrs, Master: cfg.Redis.Master, RootCAs: roots,
	})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// wrongConfig marks what a part refused about its options as wrong config.
func wrongConfig(err error) error {
	if fault.CodeOf(err) == fault.InvalidArgument && !errors.As(err, new(usageError)) {
		return usageError{err}
	}
	return err
}

func (u *upstreams) close() {
	if u.redis != nil {
		_ = u.redis.Close() // on the way out
	}
	if u.secrets != nil {
		_ = u.secrets.Close() // on the way out
	}
	if u.callers != nil {
		_ = u.callers.Close() // on the way out
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
		return httpapi.ListenUnix(ctx, cfg.Local.Socket)
	}
	return listener(ctx, cfg.Local.Listen, "PATCHBAY_LOCAL_LISTEN")
}

// sessions gives the local API's callers their own rights in Vault.
type sessions struct{ callers *vault.Callers }

func (s sessions) Session(jwt string, until time.Time) resolver.Session {
	return s.callers.Session(jwt, until)
}

// collectAt is the garbage collector's target for a data plane, in percent of the
// live heap. A hit makes no garbage, so that collecting twice as often costs next
// to nothing, and a sidecar stands beside every app instance: its memory counts.
const collectAt = 50

func runServe(ctx context.Context, s streams, cfg *config.Config) error {
	if os.Getenv("GOGC") == "" { // the operator's word wins
		debug.SetGCPercent(collectAt)
	}
	log := obs.NewLogger(s.err, cfg.Log.Level)
	kinds, err := loadKinds(cfg, logKind(log))
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
	out, err := newNetwork(cfg, log, u.ownServers(cfg), local, probes)
	if err != nil {
		return err
	}
	o := planeOptions{
		config: cfg, issuers: issuersOf(cfg), kinds: kinds.Bind(out.runtime), log: log, store: u.store,
		local: local, unix: cfg.Local.Socket != "", probes: probes,
	}
	counters := u.secrets
	if u.callers != nil {
		o.secrets, o.sessions, counters = u.callers, sessions{u.callers}, u.callers.Client()
	} else {
		tokens := u.tokenParts(cfg, out, log)
		o.secrets, o.tokens = u.secrets, &tokens
	}
	if u.redis != nil {
		o.shared, o.feed, o.redis = u.redis, u.redis, u.redis.Ping
	}
	p, err := newPlane(o)
	if err != nil {
		return err
	}
	vaultMetrics(p.metrics, counters)
	p.announce = func() error {
		log.Info("the local API is up", "address", local.Addr().String(), "probes", probes.Addr().String())
		return nil
	}
	return p.run(ctx)
}

// vaultMetrics exposes what a client counts of its own standing.
func vaultMetrics(m *obs.Registry, v *vault.Client) {
	m.CounterFunc("vault_logins_total", "Logins to Vault that worked.", v.Logins)
	m.CounterFunc("vault_login_failures_total", "Logins to Vault that did not.", v.LoginFailures)
	m.CounterFunc("vault_renewals_total", "Renewals of a Vault token that worked.", v.Renewals)
	m.CounterFunc("vault_refusals_total", "Answers of 403 from Vault.", v.Refusals)
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
				return wrongConfig(err)
			}
			if !status {
				return wrongConfig(postgres.Migrate(c.Context(), url, obs.NewLogger(s.err, "info")))
			}
			states, err := postgres.MigrationStatus(c.Context(), url)
			if err != nil {
				return wrongConfig(err)
			}
			return printMigrations(s, states)
		},
	}
	c.Flags().BoolVar(&status, "status", false, "list the migrations instead")
	return c
}
