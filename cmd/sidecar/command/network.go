package command

import (
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
	dialer  *egress.Dialer
	runtime providers.Runtime
}

// newNetwork makes the way out that the config allows. own are the process's own
// servers as host:port, listeners what it listens on itself: no tenant may name
// them, whatever else is allowed.
// Errors: an entry of egress that cannot be used.
func newNetwork(cfg *config.Config, own []string, listeners ...net.Listener) (*network, error) {
	policy := egress.Config{
		Allow: cfg.Egress.Allow, AnyLoopback: cfg.Egress.AllowLoopback.All, DenyHosts: own,
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
	host, err := os.Hostname()
	if err != nil {
		host = "" // kinds that introduce themselves find another name
	}
	return &network{dialer: d, runtime: providers.Runtime{
		DialContext: d.DialContext, Transport: d.Transport(), Endpoints: cfg.Providers.Endpoints, HostName: host,
	}}, nil
}

// ownServers are the upstreams' addresses.
func (u *upstreams) ownServers(cfg *config.Config) []string {
	own := u.store.Servers()
	if u.redis != nil {
		own = append(own, u.redis.Servers()...)
	}
	if a, err := url.Parse(cfg.Vault.Address); err == nil && a.Hostname() != "" {
		port := a.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[a.Scheme]
		}
		own = append(own, net.JoinHostPort(a.Hostname(), port))
	}
	slices.Sort(own)
	return slices.Compact(own)
}
