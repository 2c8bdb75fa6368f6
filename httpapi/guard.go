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
	ownPages   bool // requests of pages that came from here are allowed
}

// newGuard errors with fault.InvalidArgument on a host that no request could
// name, and on a forwarder that is neither an address nor a prefix.
func newGuard(allowedHosts, forwarders []string, unix bool) (*guard, error) {
	g := &guard{unix: unix, hosts: []string{"localhost", "127.0.0.1", "::1"}}
	for _, h := range allowedHosts {
		// With or without a port, which never counts; an IPv6 address with or
		// without its brackets.
		name := strings.Trim(h, "[]")
		if _, err := netip.ParseAddr(name); err != nil {
			text, _ := hostname([]byte(h))
			name = string(text)
		}
		if a, err := netip.ParseAddr(name); err == nil {
			name = a.String()
		} else if name == "" || strings.ContainsAny(name, "/:@ *") {
			return nil, fault.New(fault.InvalidArgument, "an allowed host is a name or an address, without a scheme or wildcard")
		}
		g.hosts = append(g.hosts, strings.ToLower(name))
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

const forwardedPrefix = "X-Forwarded-"

// wanted is what the local API reads of a request's headers, found in the
// guard's one pass over them. The values live in the request's buffer.
type wanted struct {
	authorization, organization, minimum, token value
	noneMatch                                   bool // has If-None-Match
}

// value is a header that may be given once.
type value struct {
	text  []byte
	times int
}

func (v *value) add(text []byte) { v.text, v.times = text, v.times+1 }

// check returns fault.PermissionDenied for a request that must not pass, and
// fault.Malformed for one that two readers could understand differently.
func (g *guard) check(c *fiber.Ctx) error {
	var w wanted
	return g.read(c, &w)
}

// read is check, and fills w.
func (g *guard) read(c *fiber.Ctx, w *wanted) error {
	h := &c.Request().Header
	// An absolute request target names a second host, which would win over the
	// Host header further in; so does one that begins with two slashes.
	target := h.RequestURI()
	if len(target) == 0 || target[0] != '/' || len(target) > 1 && target[1] == '/' {
		return fault.New(fault.PermissionDenied, "the request's target must be a path")
	}
	if bytes.IndexByte(target, '#') >= 0 {
		return fault.New(fault.Malformed, "the request's target must not have a fragment")
	}
	if !g.unix && !g.anyHost && !g.allowed(h.Host()) {
		return fault.New(fault.PermissionDenied, "this Host is not allowed; see local.allowed_hosts")
	}
	trusted, count := false, 0
	for k, v := range h.All() { // the server has made the names canonical
		count++
		switch string(k) {
		case "Authorization":
			w.authorization.add(v)
		case "X-Organization-Id":
			w.organization.add(v)
		case "X-Patchbay-Min-Revision":
			w.minimum.add(v)
		case "X-Patchbay-Token":
			w.token.add(v)
		case "If-None-Match":
			w.noneMatch = true
		case fiber.HeaderOrigin, fiber.HeaderReferer:
			if g.ownPages && ownPage(v, h.Host()) {
				continue
			}
			return fault.New(fault.PermissionDenied, "requests from web pages are not allowed")
		default:
			// The server takes "Origin :" for a header of another name, and a proxy
			// in between may not (RFC 9112, 5.1 asks for this refusal).
			if bytes.IndexByte(k, ' ') >= 0 {
				return fault.New(fault.Malformed, "a header's name has a space in it")
			}
			if string(k) == "Forwarded" || len(k) >= len(forwardedPrefix) && string(k[:len(forwardedPrefix)]) == forwardedPrefix {
				if trusted = trusted || g.trusts(c); !trusted {
					return fault.New(fault.PermissionDenied, "forwarded requests are not allowed; see local.trusted_forwarders")
				}
			}
		}
	}
	// The server keeps one Host of several, a proxy may have judged another. Only
	// the raw lines tell; they are looked at when there are more of them than
	// headers, or when there may be headers that are no such line: HTTP/1.0 adds
	// one of its own, a chunked body its trailers and a length (-2 is no body).
	raw := h.RawHeaders()
	if (bytes.Count(raw, newline) > count+1 || !h.IsHTTP11() || h.ContentLength() != -2) && hosts(raw) > 1 {
		return fault.New(fault.Malformed, "the request has several Host headers")
	}
	return nil
}

// ownPage tells whether an Origin or Referer is of a page that was served under the
// Host that is asked now, which is an allowed one.
func ownPage(page, host []byte) bool {
	_, rest, ok := bytes.Cut(page, []byte("://"))
	authority, _, _ := bytes.Cut(rest, []byte("/"))
	return ok && (bytes.HasPrefix(page, []byte("http://")) || bytes.HasPrefix(page, []byte("https://"))) && bytes.EqualFold(authority, host)
}

var newline = []byte("\n")

// hosts counts the Host lines of a request.
func hosts(raw []byte) int {
	n := 0
	for line := range bytes.Lines(raw) {
		if len(line) >= 5 && bytes.EqualFold(line[:5], []byte("Host:")) {
			n++
		}
	}
	return n
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
