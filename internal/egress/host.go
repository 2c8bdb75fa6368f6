package egress

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// target is a host that was read: an address, or a normalised name.
type target struct {
	addr netip.Addr // of IPv4 where that was written in IPv6's form; without zone
	name string     // "" with an addr
}

// parseHost reads a host in the one form in which everything behind it agrees
// what it means. What Go, a C resolver and a browser read differently (short,
// octal and hexadecimal addresses, zones) is refused, not interpreted.
func parseHost(host string) (target, error) {
	switch {
	case host == "":
		return target{}, misspelt("no host")
	case len(host) > 1024:
		return target{}, misspelt("a host of more than 1024 bytes")
	case strings.Contains(host, "%"):
		return target{}, misspelt("a host with a zone")
	case strings.Contains(host, ":"):
		a, err := netip.ParseAddr(host)
		if err != nil {
			return target{}, misspelt("neither an IPv6 address nor a name: " + strconv.Quote(host))
		}
		return target{addr: a.Unmap()}, nil
	}
	name := host
	if !isASCII(name) {
		// Full-width digits and dots become plain ones here, before anybody looks.
		mapped, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return target{}, misspelt("no internationalised name: " + strconv.Quote(host))
		}
		name = mapped
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if a, err := netip.ParseAddr(name); err == nil && a.Is4() {
		return target{addr: a}, nil
	}
	if !isName(name) {
		return target{}, misspelt("neither an address nor a name: " + strconv.Quote(host))
	}
	return target{name: name}, nil
}

// isName tells whether a lower-case ASCII name is one of the DNS (with the
// underscores that container names have) and can't be read as an address.
func isName(name string) bool {
	if len(name) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
		if strings.HasPrefix(label, "xn--") {
			if _, err := idna.Lookup.ToASCII(label); err != nil {
				return false
			}
		}
		last = label
	}
	return !isNumber(last)
}

// isNumber tells whether inet_aton and browsers may read a last label as a number,
// and so the whole name as an IPv4 address: 127.1, 0x7f.1, 2130706433, 1.2.3.0x.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// isLocalhost: RFC 6761, section 6.3: these names mean loopback, whatever a DNS
// server says, and are never looked up.
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// isPublicName tells whether a name is below a suffix of the public DNS (a
// registry's, or a hoster's domain that is listed as one), so that anybody may ask
// whether it exists. What is below "example" and "invalid" never does (RFC 6761).
func isPublicName(name string) bool {
	suffix, icann := publicsuffix.PublicSuffix(name)
	return icann || strings.Contains(suffix, ".") || suffix == "example" || suffix == "invalid"
}

// parsePort reads a port. Service names are refused: what they mean is a file's
// decision. Port 0 means "any" to some, and nothing to a server.
func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, misspelt("not a port from 1 to 65535: " + strconv.Quote(text))
	}
	return uint16(n), nil
}

// parseAddress reads host:port, with brackets around IPv6 and nothing else.
func parseAddress(address string) (target, uint16, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil || address[0] == '[' && !strings.Contains(host, ":") {
		return target{}, 0, misspelt("not host:port: " + strconv.Quote(address))
	}
	port, err := parsePort(service)
	if err != nil {
		return target{}, 0, err
	}
	t, err := parseHost(host)
	return t, port, err
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
