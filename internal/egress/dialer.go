package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// lookupTimeout bounds one look-up of a name.
	lookupTimeout = 5 * time.Second
	// connectTimeout bounds the attempt to connect to one address. With several
	// addresses and a deadline each gets its share, but shareMinimum at least.
	connectTimeout = 5 * time.Second
	shareMinimum   = time.Second
	// maxAttempts is how many of a name's addresses are tried: a tenant's own DNS
	// server could list hundreds, each a connection that we make for it.
	maxAttempts = 6
)

// Config is the policy. The zero Config lets public addresses be dialled and
// nothing else.
type Config struct {
	// Allow is what the operator opens of the private ranges: addresses, prefixes
	// and host names, each with an optional port ("10.20.0.0/16",
	// "mail.corp.example:587", "[fd00::25]:587", "[fd00::/8]:587"). Without a port
	// every port. A name is that name only, not those below it. Nothing here opens
	// what is hard denied.
	Allow []string
	// AllowLoopback are ports of loopback addresses that may be dialled.
	AllowLoopback []uint16
	// AnyLoopback lets every port of loopback addresses be dialled: dev.
	AnyLoopback bool
	// Deny are the sidecar's own servers and listeners. They win over everything
	// above. Port 0 is every port. A loopback address stands for all of them; the
	// unspecified address stands for each address of this machine.
	Deny []netip.AddrPort
	// DenyHosts are the same by name ("vault:8200"), or as an address with or without
	// port: denied by name, and by what they resolve to when a tenant's host is
	// dialled. The path of a Unix socket may stand here, and denies nothing more.
	DenyHosts []string
	// Own lists further ones, in the same forms: those that are learned while the
	// process runs, such as the nodes of a cluster. What it lists counts from the
	// next dial on, and no longer when it is gone from the list. It is asked for each
	// address that is judged, so it must answer at once and be safe for concurrent
	// use; its result is only read. An entry that can't be read is skipped: a tenant
	// can't spell such a host either, and its owner lists the address beside the name.
	// nil: none.
	Own func() []string
	// Resolver looks names up; nil is Go's own over the system's configuration. It is
	// asked for lower-case ASCII names without a final dot, and must be safe for
	// concurrent use.
	Resolver Resolver
}

// Resolver looks a name's addresses up. network is "ip". *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dialer dials what its policy allows. It is safe for concurrent use. Its policy
// changes by what Config.Own lists alone.
type Dialer struct {
	policy   *policy
	resolver Resolver
	rooted   bool // names that the operator doesn't list are looked up as absolute ones
}

// New reads a policy. An entry that is malformed is an error that names it and
// matches ErrMalformed.
func New(c Config) (*Dialer, error) {
	p, err := newPolicy(c)
	if err != nil {
		return nil, err
	}
	d := &Dialer{policy: p, resolver: c.Resolver}
	if d.resolver == nil {
		// Go's own stops when its context ends, and knows the DNS and the hosts file only.
		d.resolver, d.rooted = &net.Resolver{PreferGo: true}, true
	}
	return d, nil
}

// Ineffective lists the entries of Allow that open nothing, because what they name
// is hard denied. An operator who wrote one expects otherwise.
func (d *Dialer) Ineffective() []string { return slices.Clone(d.policy.ineffective) }

// CheckHost checks a host, without brackets and port, as far as that goes without
// a look-up: for the moment when a tenant saves it. nil means that DialContext may
// succeed for some port. The error matches ErrDenied, and ErrMalformed where no
// policy would help.
func (d *Dialer) CheckHost(host string) error {
	t, err := parseHost(host)
	if err != nil {
		return err
	}
	for _, port := range d.policy.ports() {
		if err = d.checkTarget(t, port); err == nil {
			return nil
		}
	}
	return err
}

// checkTarget is the part of a dial's decision that needs no look-up.
func (d *Dialer) checkTarget(t target, port uint16) error {
	switch {
	case t.name == "":
		_, err := d.choose(t.addr.String(), []netip.Addr{t.addr}, port, false)
		return err
	case d.policy.own.now().named(t.name, port):
		return deny(t.name + ": the name of one of the sidecar's own servers")
	case isLocalhost(t.name):
		_, err := d.choose(t.name, loopbacks, port, false)
		return err
	default:
		return nil
	}
}

// DialContext opens a TCP connection to a host that the policy allows. network is
// tcp, tcp4 or tcp6, address is host:port with a number. It blocks for at most one
// look-up (5 s) and six attempts (5 s each), and until ctx ends. The connection is
// to an address that was judged; its errors name the host as it is in address.
//
// The error matches ErrDenied, ErrResolve or the context's, or is a *net.OpError.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, misspelt("network " + strconv.Quote(network))
	}
	t, port, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if err := d.checkTarget(t, port); err != nil {
		return nil, err
	}
	host, addrs, named := t.name, loopbacks, false
	switch {
	case t.name == "":
		host, addrs = t.addr.String(), []netip.Addr{t.addr}
	case !isLocalhost(t.name):
		named = d.policy.allowsName(t.name, port)
		if addrs, err = d.lookup(ctx, t.name); err != nil {
			return nil, err
		}
	}
	good, err := d.choose(host, addrs, port, named)
	if err != nil {
		return nil, err
	}
	if err := d.checkBackends(ctx, host, good, port); err != nil {
		return nil, err
	}
	good = slices.DeleteFunc(good, func(a netip.Addr) bool { return network == "tcp4" && !a.Is4() || network == "tcp6" && a.Is4() })
	if len(good) == 0 {
		return nil, unfound(host+": no address of the family asked for", false)
	}
	c, err := d.connect(ctx, interleave(good), port, named)
	if err != nil {
		return nil, unnamed(err, address)
	}
	return &conn{Conn: c, address: address}, nil
}

func unfound(detail string, timeout bool) error {
	return &refusal{kind: ErrResolve, public: unresolved, detail: detail, timeout: timeout}
}

// lookup finds a name's addresses.
func (d *Dialer) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	listed := d.policy.lists(name)
	asked := name
	if d.rooted && !listed {
		// Else "vault.default" would be found through a pod's search list, and each
		// public name would first be asked for in five places of the cluster.
		asked += "."
	}
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(bounded, "ip", asked)
	if len(addrs) > 0 && err == nil {
		return addrs, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("egress: look-up: %w", ctx.Err())
	}
	detail := name + ": no addresses"
	if err != nil {
		detail = name + ": " + err.Error()
	}
	if !listed && !isPublicName(name) {
		return nil, deny(detail)
	}
	var network net.Error
	return nil, unfound(detail, errors.As(err, &network) && network.Timeout())
}

// choose judges all addresses of a host and returns those that may be dialled.
// One that is hard denied condemns the host: no honest one has it beside others.
func (d *Dialer) choose(host string, addrs []netip.Addr, port uint16, named bool) (good []netip.Addr, err error) {
	for _, a := range addrs {
		v, reason := d.policy.judge(a, port, named)
		switch v {
		case allowed:
			good = append(good, a.Unmap())
		case never:
			return nil, deny(fmt.Sprintf("%s is at %s: %s", host, netip.AddrPortFrom(a, port), reason))
		default:
			err = deny(fmt.Sprintf("%s is at %s: %s", host, netip.AddrPortFrom(a, port), reason))
		}
	}
	if len(good) > 0 {
		return good, nil
	}
	return nil, err
}

// checkBackends compares addresses with those of the sidecar's own servers that
// are known by name.
func (d *Dialer) checkBackends(ctx context.Context, host string, addrs []netip.Addr, port uint16) error {
	for _, b := range d.policy.own.now().names {
		if !fits(b.port, port) {
			continue
		}
		for _, a := range addrs {
			there, err := b.answersAt(ctx, d.resolver, a)
			switch {
			case there:
				return deny(fmt.Sprintf("%s is at %s: where %s is", host, netip.AddrPortFrom(a, port), b.name))
			case err != nil && ctx.Err() != nil:
				return fmt.Errorf("egress: look-up: %w", ctx.Err())
			case err != nil:
				return unfound(fmt.Sprintf("%s: where %s is can't be said: %v", host, b.name, err), true)
			}
		}
	}
	return nil
}

// interleave puts the families in turn (RFC 8305, section 4), so that one that
// leads nowhere costs one attempt and not all.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	mixed := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			mixed = append(mixed, first[i])
		}
		if i < len(second) {
			mixed = append(mixed, second[i])
		}
	}
	return mixed[:min(len(mixed), maxAttempts)]
}

// connect tries addresses in order. The error is the first one's.
func (d *Dialer) connect(ctx context.Context, addrs []netip.Addr, port uint16, named bool) (net.Conn, error) {
	var first error
	for i, a := range addrs {
		within := connectTimeout
		if deadline, ok := ctx.Deadline(); ok {
			within = share(time.Until(deadline), len(addrs)-i)
		}
		c, err := d.connectTo(ctx, netip.AddrPortFrom(a, port), within, named)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// share is how long the next of n attempts may take, with so much time left.
func share(left time.Duration, n int) time.Duration {
	return min(connectTimeout, max(left/time.Duration(n), shareMinimum))
}

func (d *Dialer) connectTo(ctx context.Context, to netip.AddrPort, within time.Duration, named bool) (net.Conn, error) {
	network := "tcp6"
	if to.Addr().Is4() {
		network = "tcp4"
	}
	dialer := net.Dialer{
		Timeout: within,
		// What the socket is about to be connected to is looked at once more, so that
		// nothing between the decision and here could have put another address in.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || at != to {
				return deny("a socket to " + address + " instead of " + to.String())
			}
			if v, reason := d.policy.judge(at.Addr(), at.Port(), named); v != allowed {
				return deny(address + ": " + reason)
			}
			return nil
		},
	}
	return dialer.DialContext(ctx, network, to.String())
}
