package command

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/providers"
)

// network is a process's way to the hosts that tenants name.
type network struct {
	runtime providers.Runtime
}

// ownServers are a process's own servers as host:port. The zero value is none.
type ownServers struct {
	configured []string
	found      func() []string // those that turn up while it runs, asked at each dial; nil: none
}

// newNetwork makes the way out that the config allows. own are the process's own
// servers, listeners what it listens on itself: no tenant may name them, whatever
// else is allowed.
// A refusal is logged with its reason, which nobody else learns.
// Errors: an entry of egress that cannot be used.
func newNetwork(cfg *config.Config, log *slog.Logger, own ownServers, listeners ...net.Listener) (*network, error) {
	policy := egress.Config{
		Allow: cfg.Egress.Allow, AnyLoopback: cfg.Egress.AllowLoopback.All, DenyHosts: own.configured,
		Own: own.found,
	}
	for _, p := range cfg.Egress.AllowLoopback.Ports {
		policy.AllowLoopback = append(policy.AllowLoopback, uint16(p)) // validated to be one
	}
	for _, ln := range listeners {
		if a, err := netip.ParseAddrPort(ln.Addr().String()); err == nil { // a Unix socket has none
			policy.Deny = append(policy.Deny, a)
		}
	}
	d, err := egress.New(policy)
	if err != nil {
		return nil, wrongConfig(err)
	}
	for _, entry := range d.Ineffective() {
		log.Warn("an entry of egress.allow opens nothing: what it names is never dialled", "address", entry)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if reason := egress.Detail(err); reason != "" {
			log.Info("a connector's host was refused", "reason", reason)
		}
		return c, err
	}
	transport := d.Transport()
	transport.DialContext = dial
	host, err := os.Hostname()
	if err != nil {
		host = "" // kinds that introduce themselves find another name
	}
	return &network{runtime: providers.Runtime{
		DialContext: dial, Transport: transport, Endpoints: cfg.Providers.Endpoints, HostName: host,
	}}, nil
}

// ownServers are the upstreams' addresses. Redis' own are asked for anew each time:
// which nodes there are is known to its sentinels or its cluster, not to the config.
func (u *upstreams) ownServers(cfg *config.Config) ownServers {
	own := u.store.Servers()
	var found func() []string
	if u.redis != nil {
		own = append(own, u.redis.Servers()...)
		found = u.redis.Servers
	}
	if a, err := url.Parse(cfg.Vault.Address); err == nil && a.Hostname() != "" {
		port := a.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[a.Scheme]
		}
		own = append(own, net.JoinHostPort(a.Hostname(), port))
	}
	// In a pod: whoever opens the cluster's range to tenants does not mean its API.
	if h := os.Getenv("KUBERNETES_SERVICE_HOST"); h != "" {
		own = append(own, net.JoinHostPort(h, cmp.Or(os.Getenv("KUBERNETES_SERVICE_PORT"), "443")))
	}
	slices.Sort(own)
	return ownServers{configured: slices.Compact(own), found: found}
}
