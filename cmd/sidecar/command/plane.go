package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/oauth"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// program is what a process runs: servers on open listeners and jobs. The first
// failure ends everything; the end of its context drains.
type program struct {
	log      *slog.Logger
	drain    time.Duration
	servers  []served
	probes   []served // answer until everything else has ended
	jobs     []job
	finish   []func(ctx context.Context) error // within the drain budget, once nothing is served
	announce func() error                      // called when everything is about to serve
	draining atomic.Bool
	metrics  *obs.Registry // what its probes show
	minted   connector.Grantor
	verifier *tenant.Verifier // of a data plane
}

// newVerifier verifies the tokens of issuers by what the config says of roles.
func newVerifier(cfg *config.Config, issuers []tenant.Issuer, log *slog.Logger) (*tenant.Verifier, error) {
	roots, err := keyServerRoots(cfg)
	if err != nil {
		return nil, err
	}
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: issuers, RoleMap: permissions(cfg.JWT.Roles), Log: log, RootCAs: roots})
	if err != nil {
		return nil, wrongConfig(err)
	}
	return v, nil
}

// issuersReady are the issuers as readiness shows them.
func issuersReady(v *tenant.Verifier) []httpapi.Dependency {
	var deps []httpapi.Dependency
	for _, i := range v.Ready() {
		d := httpapi.Dependency{Name: "issuer " + i.Issuer, OK: i.Ready, Required: true}
		if !i.Ready {
			d.Detail = "its keys were never fetched"
		}
		deps = append(deps, d)
	}
	return deps
}

// server is what httpapi's apps have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(ctx context.Context) error
}

type served struct {
	server
	ln net.Listener
}

type job struct {
	name string
	run  func(ctx context.Context) error
}

// background adds a job that runs until the program ends.
func (p *program) background(name string, run func(ctx context.Context) error) {
	p.jobs = append(p.jobs, job{name, run})
}

func (p *program) serve(s server, ln net.Listener) { p.servers = append(p.servers, served{s, ln}) }

func (p *program) serveProbes(s server, ln net.Listener) { p.probes = append(p.probes, served{s, ln}) }

// run serves until ctx ends, then drains: not ready first, then what is in
// flight is finished, within the drain budget. Jobs go on meanwhile, so that a
// last answer is as fresh as any, and probes answer to the end.
func (p *program) run(ctx context.Context) error {
	if p.announce != nil {
		if err := p.announce(); err != nil {
			return err
		}
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, failed := errgroup.WithContext(life)
	for _, j := range p.jobs {
		g.Go(func() error {
			if err := j.run(failed); err != nil && failed.Err() == nil {
				return fmt.Errorf("%s: %w", j.name, err)
			}
			return nil
		})
	}
	for _, s := range append(p.servers, p.probes...) {
		g.Go(func() error {
			if err := s.Serve(s.ln); err != nil && failed.Err() == nil {
				return fmt.Errorf("serving %s: %w", s.ln.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			p.log.Info("draining", "budget", p.drain.String())
		case <-failed.Done():
		}
		p.draining.Store(true)
		budget, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.drain)
		defer cancel()
		err := shutdownAll(budget, p.servers)
		for _, f := range p.finish {
			err = errors.Join(err, f(budget))
		}
		end()
		// Whoever polls a probe just now is answered; nobody else is waited for.
		last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), probesGrace)
		defer cancelLast()
		_ = shutdownAll(last, p.probes) // a probe that is cut off is no failure
		return err
	})
	return g.Wait()
}

// leaving adds to what readiness asks for that the process stays.
func (p *program) leaving(deps []httpapi.Dependency) []httpapi.Dependency {
	if p.draining.Load() {
		deps = append(deps, httpapi.Dependency{Name: "drain", Required: true, Detail: "the process is leaving"})
	}
	return deps
}

// probesGrace is what a probe under way gets once everything else has ended.
const probesGrace = 250 * time.Millisecond

func shutdownAll(ctx context.Context, servers []served) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			errs[i] = s.Shutdown(ctx)
			// A server that has not begun to serve knows no listener yet.
			_ = s.ln.Close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// planeOptions are the parts of a data plane. Listeners are open already, so
// that a bind error came before anything started.
type planeOptions struct {
	config  *config.Config
	issuers []tenant.Issuer
	kinds   *providers.Registry
	log     *slog.Logger
	store   connector.Store
	secrets interface {
		resolver.Secrets
		Ready(ctx context.Context) error
	}
	sessions httpapi.Sessions // nil: secrets are read with the process's own right
	shared   resolver.Shared  // nil: none
	feed     resolver.Feed    // nil: none; freshness by TTL alone
	tokens   *tokenParts      // nil: no standing right to grants, so that nothing is minted
	local    net.Listener
	unix     bool // local is a Unix socket
	probes   net.Listener
	redis    func(ctx context.Context) error // nil: none configured
}

// newPlane wires a data plane: the local API over a resolver, with probes. It
// starts nothing.
func newPlane(o planeOptions) (*program, error) {
	cfg := o.config
	p := &program{log: o.log, drain: cfg.Drain}
	verifier, err := newVerifier(cfg, o.issuers, o.log)
	if err != nil {
		return nil, err
	}
	maxStale := make(map[providers.Category]time.Duration, len(cfg.Cache.MaxStaleByCategory))
	for name, d := range cfg.Cache.MaxStaleByCategory {
		maxStale[providers.Category(name)] = d
	}
	var manager *oauth.Manager
	var tokens connector.Grantor // stays nil, and not a nil Manager, without parts
	if o.tokens != nil {
		if manager, err = p.tokens(*o.tokens); err != nil {
			return nil, err
		}
		tokens = manager
	}
	answers, err := resolver.New(resolver.Options{
		Tokens: tokens, Database: o.store, Secrets: o.secrets, Shared: o.shared, Kinds: o.kinds, Log: o.log,
		TTL: cfg.Cache.TTL, NegativeTTL: cfg.Cache.NegativeTTL, MaxStale: cfg.Cache.MaxStale,
		MaxStaleByCategory: maxStale, MaxBytes: int(cfg.Cache.MaxBytes),
	})
	if err != nil {
		return nil, err
	}
	metrics := obs.NewRegistry()
	resolverMetrics(metrics, answers)
	if manager != nil {
		tokenMetrics(metrics, manager)
	}
	local, err := httpapi.NewLocal(httpapi.LocalOptions{
		Verifier: verifier, Resolver: answers, Sessions: o.sessions, Categories: o.kinds, Log: o.log, Registry: metrics,
		AllowedHosts: cfg.Local.AllowedHosts, TrustedForwarders: cfg.Local.TrustedForwarders,
		TokenFile: cfg.Local.TokenFile, Deadline: cfg.Local.Deadline, UnixSocket: o.unix,
	})
	if err != nil {
		return nil, wrongConfig(err)
	}
	w := newWatch(o.log)
	w.add("postgres", func(ctx context.Context) error { _, err := o.store.Ping(ctx); return err })
	w.add("vault", o.secrets.Ready)
	if o.redis != nil {
		w.add("redis", o.redis)
	}
	probes := httpapi.NewProbes(httpapi.ProbesOptions{
		Metrics: metrics.Handler(),
		Live:    func() error { return nil },
		Ready: func() []httpapi.Dependency {
			// Ready means "can serve": from memory, or from both upstreams. Redis
			// never counts.
			held := answers.Held()
			deps := w.dependencies(func(name string) bool { return name != "redis" && !held })
			return p.leaving(append(deps, issuersReady(verifier)...))
		},
	})
	p.metrics, p.minted, p.verifier = metrics, tokens, verifier
	p.serve(local, o.local)
	p.serveProbes(probes, o.probes)
	p.background("keys", verifier.Run)
	p.background("freshness", answers.Keep)
	p.background("dependencies", w.run)
	if o.feed != nil {
		p.background("changes", func(ctx context.Context) error { return answers.Listen(ctx, o.feed) })
	}
	return p, nil
}

// resolverMetrics exposes what the resolver counts.
func resolverMetrics(m *obs.Registry, r *resolver.Resolver) {
	s := &r.Stats
	for name, c := range map[string]struct {
		help string
		n    *atomic.Int64
	}{
		"database_reads_total":   {"Slots and connectors read from the database.", &s.DatabaseReads},
		"revision_reads_total":   {"Batched revision statements.", &s.RevisionReads},
		"vault_reads_total":      {"Secret bundles read from Vault.", &s.VaultReads},
		"redis_reads_total":      {"Reads of the shared cache.", &s.RedisReads},
		"redis_hits_total":       {"Reads of the shared cache that answered.", &s.RedisHits},
		"redis_errors_total":     {"Calls of the shared cache that failed.", &s.RedisErrors},
		"stale_served_total":     {"Answers served while the database was away.", &s.StaleServed},
		"went_back_total":        {"Times the database was found below a revision it had told.", &s.WentBack},
		"messages_total":         {"Change messages heard.", &s.Messages},
		"feed_breaks_total":      {"Subscriptions that ended or missed a number.", &s.Breaks},
		"unchanged_total":        {"Suspect answers that were found to be the same.", &s.Unchanged},
		"database_outages_total": {"Database calls without an answer.", &s.DatabaseOutages},
		"vault_outages_total":    {"Vault reads without an answer.", &s.VaultOutages},
		"token_outages_total":    {"Backends that got no new token when one was due.", &s.TokenOutages},
	} {
		m.CounterFunc(name, c.help, c.n.Load)
	}
	m.GaugeFunc("clock_skew_seconds", "Last seen difference to the database's clock.", func() float64 { return float64(s.ClockSkewSeconds.Load()) })
	m.GaugeFunc("feed_connected", "1 while the change feed proves that nothing is missing.", func() float64 {
		if r.Connected() {
			return 1
		}
		return 0
	})
}
