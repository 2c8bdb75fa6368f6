package httpapi

import (
	"bytes"
	"net"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// guard refuses what no app sends but a browser or a proxy does: localhost is
// reachable from every web page that its user opens.
type guard struct {
	hosts      []string // lower case, without port and brackets
	forwarders []netip.Prefix
	unix       bool
	anyHost    bool
}

// newGuard errors with fault.InvalidArgument on a forwarder that is neither an
// address nor a prefix.
func newGuard(allowedHosts, forwarders []string, unix bool) (*guard, error) {
	g := &guard{unix: unix, hosts: []string{"localhost", "127.0.0.1", "::1"}}
	for _, h := range allowedHosts {
		g.hosts = append(g.hosts, strings.ToLower(strings.Trim(h, "[]")))
	}
	for _, f := range forwarders {
		p, err := netip.ParsePrefix(f)
		if err != nil {
			a, err := netip.ParseAddr(f)
			if err != nil {
				return nil, fault.New(fault.InvalidArgument, "a trusted forwarder is an address or a prefix")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		g.forwarders = append(g.forwarders, p.Masked())
	}
	return g, nil
}

var (
	forwardedPrefix = []byte("X-Forwarded-")
	forwarded       = []byte("Forwarded")
	originHeader    = []byte(fiber.HeaderOrigin)
	refererHeader   = []byte(fiber.HeaderReferer)
)

// check returns fault.PermissionDenied for a request that must not pass.
func (g *guard) check(c *fiber.Ctx) error {
	h := &c.Request().Header
	// An absolute request target names a second host, which would win over the
	// Host header further in.
	if target := h.RequestURI(); len(target) == 0 || target[0] != '/' {
		return fault.New(fault.PermissionDenied, "the request's target must be a path")
	}
	if !g.unix && !g.anyHost && !g.allowed(h.Host()) {
		return fault.New(fault.PermissionDenied, "this Host is not allowed; see local.allowed_hosts")
	}
	trusted := false
	for k := range h.All() {
		switch {
		case bytes.EqualFold(k, originHeader), bytes.EqualFold(k, refererHeader):
			return fault.New(fault.PermissionDenied, "requests from web pages are not allowed")
		case len(k) >= len(forwardedPrefix) && bytes.EqualFold(k[:len(forwardedPrefix)], forwardedPrefix), bytes.EqualFold(k, forwarded):
			if trusted = trusted || g.trusts(c); !trusted {
				return fault.New(fault.PermissionDenied, "forwarded requests are not allowed; see local.trusted_forwarders")
			}
		}
	}
	return nil
}

// allowed compares a Host header with the list, whatever its port.
func (g *guard) allowed(host []byte) bool {
	name, ok := hostname(host)
	if !ok {
		return false
	}
	for _, h := range g.hosts {
		if len(name) == len(h) && bytes.EqualFold(name, []byte(h)) {
			return true
		}
	}
	return false
}

// hostname cuts the port and an IPv6 address's brackets off.
func hostname(host []byte) (name []byte, ok bool) {
	port := []byte(nil)
	if len(host) > 0 && host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 {
			return nil, false
		}
		name, port = host[1:end], host[end+1:]
	} else if i := bytes.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	} else {
		name = host
	}
	if len(port) > 0 {
		if port[0] != ':' || len(port) > 6 {
			return nil, false
		}
		for _, d := range port[1:] {
			if d < '0' || d > '9' {
				return nil, false
			}
		}
	}
	return name, len(name) > 0
}

// trusts tells whether the peer itself, never what it says, is a forwarder.
func (g *guard) trusts(c *fiber.Ctx) bool {
	if g.unix {
		return false
	}
	tcp, ok := c.Context().RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	a, ok := netip.AddrFromSlice(tcp.IP)
	if !ok {
		return false
	}
	for _, p := range g.forwarders {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}
