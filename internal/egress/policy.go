package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// policy is a Config that was read. It does no look-ups, and changes by what
// Config.Own lists alone.
type policy struct {
	anyLoopback   bool
	loopbackPorts []uint16
	prefixes      []allowedPrefix
	names         []hostPort // allowed
	own           own
	ineffective   []string
}

// allowedPrefix is an entry of the allow-list; port 0 is every port.
type allowedPrefix struct {
	prefix netip.Prefix
	port   uint16
}

// hostPort is a normalised name; port 0 is every port.
type hostPort struct {
	name string
	port uint16
}

func fits(rule, port uint16) bool { return rule == 0 || rule == port }

func newPolicy(c Config) (*policy, error) {
	p := &policy{anyLoopback: c.AnyLoopback, loopbackPorts: slices.Clone(c.AllowLoopback), own: own{source: c.Own}}
	if slices.Contains(p.loopbackPorts, 0) {
		return nil, fmt.Errorf("egress: loopback port 0: %w", ErrMalformed)
	}
	for _, text := range c.Allow {
		e, err := parseEntry(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("egress: allow %q: %w", text, err)
		case e.name != "":
			p.names = append(p.names, hostPort{e.name, e.port})
			if isLocalhost(e.name) {
				p.ineffective = append(p.ineffective, text)
			}
		default:
			p.prefixes = append(p.prefixes, allowedPrefix{e.prefix, e.port})
			if slices.ContainsFunc(hardDenied, func(h denial) bool {
				return h.prefix.Bits() <= e.prefix.Bits() && h.prefix.Contains(e.prefix.Addr())
			}) {
				p.ineffective = append(p.ineffective, text)
			}
		}
	}
	for _, d := range c.Deny {
		if !d.Addr().IsValid() {
			return nil, fmt.Errorf("egress: deny %q: %w", d, ErrMalformed)
		}
		p.own.fixed.addrs = append(p.own.fixed.addrs, netip.AddrPortFrom(plain(d.Addr()), d.Port()))
	}
	for _, text := range c.DenyHosts {
		if err := p.own.fixed.add(text, nil); err != nil {
			return nil, fmt.Errorf("egress: deny %q: %w", text, err)
		}
	}
	return p, nil
}

// entry is an address or prefix, or a name; port 0 is every port.
type entry struct {
	prefix netip.Prefix
	name   string
	port   uint16
}

// parseEntry reads an address, a prefix or a name, each with an optional port;
// IPv6 with a port is in brackets: [fd00::25]:587, [fd00::/8]:587.
func parseEntry(text string) (e entry, err error) {
	host := text
	inside, rest, closed := strings.Cut(strings.TrimPrefix(text, "["), "]")
	switch {
	case strings.HasPrefix(text, "["):
		port, ported := strings.CutPrefix(rest, ":")
		if !closed || rest != "" && !ported || !strings.Contains(inside, ":") {
			return e, misspelt("brackets are for IPv6")
		}
		host = inside
		if ported {
			e.port, err = parsePort(port)
		}
	case strings.Count(text, ":") == 1:
		var port string
		host, port, _ = strings.Cut(text, ":")
		e.port, err = parsePort(port)
	}
	if err != nil {
		return e, err
	}
	if strings.Contains(host, "/") {
		p, err := netip.ParsePrefix(host)
		// A prefix with bits behind its length is one that its writer read as an
		// address, or the reverse.
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return e, misspelt("not a prefix")
		}
		e.prefix = p
		return e, nil
	}
	t, err := parseHost(host)
	if err != nil {
		return e, err
	}
	if t.name == "" {
		e.prefix = netip.PrefixFrom(t.addr, t.addr.BitLen())
	}
	e.name = t.name
	return e, nil
}

// plain is an address as it is judged: IPv4 in its own form, without zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// verdict is what a policy says of one address and port.
type verdict int

const (
	allowed verdict = iota
	closed          // denied by default: the operator may allow it
	never           // hard denied
)

// judge decides on one address and port, and says why. named: the operator allows
// the name that led to the address.
func (p *policy) judge(a netip.Addr, port uint16, named bool) (verdict, string) {
	if !a.IsValid() || a.Zone() != "" || port == 0 {
		return never, "no address and port without zone"
	}
	a = a.Unmap()
	behind := embedded(a)
	forms := append([]netip.Addr{a}, behind...)
	ours := p.own.now()
	for _, f := range forms {
		if ours.at(f, port) {
			return never, "one of the sidecar's own"
		}
	}
	// The only exception. What merely leads to loopback, through a gateway, is none.
	if a.IsLoopback() && (p.anyLoopback || slices.Contains(p.loopbackPorts, port)) {
		return allowed, "loopback"
	}
	for _, f := range forms {
		if reason, yes := hard(f); yes {
			return never, reason
		}
	}
	if named {
		return allowed, "by its name"
	}
	// Behind the well-known prefix of NAT64 is the whole of IPv4, and nothing else:
	// a network of IPv6 alone has no other way to a public IPv4 server.
	if nat64.Contains(a) {
		a, behind = behind[0], nil
	}
	for _, r := range p.prefixes {
		if fits(r.port, port) && (r.prefix.Contains(a) || r.prefix.Contains(forms[0])) {
			return allowed, "by its address"
		}
	}
	if !public(a) || slices.ContainsFunc(behind, func(v4 netip.Addr) bool { return !public(v4) }) {
		return closed, "not a public address"
	}
	return allowed, "public"
}

// allowsName tells whether the operator allows a name for a port.
func (p *policy) allowsName(name string, port uint16) bool {
	return slices.ContainsFunc(p.names, func(h hostPort) bool { return h.name == name && fits(h.port, port) })
}

// lists tells whether the operator allows a name for any port.
func (p *policy) lists(name string) bool {
	return slices.ContainsFunc(p.names, func(h hostPort) bool { return h.name == name })
}

// ports are all that the policy tells apart: each port that it mentions, and one
// that stands for the others.
func (p *policy) ports() []uint16 {
	ports := slices.Clone(p.loopbackPorts)
	for _, r := range p.prefixes {
		ports = append(ports, r.port)
	}
	for _, h := range p.names {
		ports = append(ports, h.port)
	}
	ours := p.own.now()
	for _, b := range ours.names {
		ports = append(ports, b.port)
	}
	for _, d := range ours.addrs {
		ports = append(ports, d.Port())
	}
	other := uint16(1)
	for slices.Contains(ports, other) {
		other++
	}
	ports = append(ports, other)
	slices.Sort(ports)
	return slices.DeleteFunc(slices.Compact(ports), func(n uint16) bool { return n == 0 })
}
