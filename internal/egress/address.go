package egress

import (
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// denial is a range and why it is denied.
type denial struct {
	prefix netip.Prefix
	reason string
}

// hardDenied are addresses that are never a tenant's server, whatever the operator
// allows: the machine itself, its link, and the servers through which a cloud
// tells a machine who it is and hands out its credentials.
var hardDenied = []denial{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("0.0.0.0/8"), "this host (RFC 1122): Linux dials loopback"},
	{netip.MustParsePrefix("::/128"), "unspecified: Linux dials loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, with most clouds' metadata servers"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("100.100.100.200/32"), "metadata of Alibaba Cloud"},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure's WireServer, a public address that only machines there reach"},
	{netip.MustParsePrefix("192.0.0.192/32"), "metadata of Oracle Cloud"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "metadata, DNS, time and pod identity of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "metadata of Google Cloud"},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "metadata of Oracle Cloud"},
	{netip.MustParsePrefix("fd00:42::42/128"), "metadata of Scaleway"},
	{netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), "metadata of Akamai (Linode)"},
}

// hard tells whether an address is hard denied, and why. Zones are for others to
// refuse: a prefix contains no address with one.
func hard(a netip.Addr) (reason string, yes bool) {
	for _, h := range hardDenied {
		if h.prefix.Contains(a) {
			return h.reason, true
		}
	}
	return "", false
}

// special are the special-purpose ranges of IANA: private, shared, documentation,
// benchmarks, transition, reserved, and in IPv6 everything outside 2000::/3.
var special = ssrf.New(ssrf.WithAnyPort())

// public tells whether an address is on the public Internet.
func public(a netip.Addr) bool { return special.SafeAddr(a) == nil }

var (
	compatible = netip.MustParsePrefix("::/96")           // IPv4-compatible, RFC 4291 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // IPv4-translated, RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

// embedded lists the IPv4 addresses that a gateway or a tunnel may read out of an
// IPv6 address: a packet to it may arrive at each of them.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	last := at(12, 13, 14, 15)
	switch {
	case a == netip.IPv6Unspecified(), a == netip.IPv6Loopback():
		return nil
	case compatible.Contains(a), translated.Contains(a), nat64.Contains(a), a.Is4In6():
		return []netip.Addr{last}
	case nat64Local.Contains(a):
		// Which length a network uses below the /48 can't be known (RFC 6052, 2.2);
		// byte 8 is skipped by all. 0.x.y.z is what the padding of another length gives.
		return slices.DeleteFunc([]netip.Addr{at(6, 7, 9, 10), at(7, 9, 10, 11), at(9, 10, 11, 12), last},
			func(v4 netip.Addr) bool { return v4.As4()[0] == 0 })
	case sixToFour.Contains(a):
		return []netip.Addr{at(2, 3, 4, 5)}
	case teredo.Contains(a):
		return []netip.Addr{at(4, 5, 6, 7), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214 6.1
		return []netip.Addr{last}
	default:
		return nil
	}
}
