package egresstest

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Form is one way to write a host that no tenant may reach.
type Form struct {
	Name string // of the test's row
	Host string // as a tenant types it, without brackets and port
	Port uint16
}

// Address is the form as host:port.
func (f Form) Address() string { return net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))) }

// URL is the form as a URL of the scheme, with a path.
func (f Form) URL(scheme string) string { return scheme + "://" + f.Address() + "/planted" }

// Forms lists ways to write loopback, the metadata servers and whatever else is
// denied by default, at the port, and each of the private addresses in the forms
// that its family has. Each is to be refused without a packet.
func Forms(port uint16, private ...netip.Addr) []Form {
	forms := []Form{
		{Name: "loopback", Host: "127.0.0.1"},
		{Name: "loopback, another one", Host: "127.8.9.10"},
		{Name: "loopback, decimal", Host: "2130706433"},
		{Name: "loopback, decimal, above 32 bits", Host: "6425673729"},
		{Name: "loopback, octal", Host: "0177.0.0.1"},
		{Name: "loopback, octal, one number", Host: "017700000001"},
		{Name: "loopback, octal, long", Host: "00000177.0.0.1"},
		{Name: "loopback, hexadecimal", Host: "0x7f.0.0.1"},
		{Name: "loopback, hexadecimal, one number", Host: "0x7f000001"},
		{Name: "loopback, hexadecimal, upper case", Host: "0X7F000001"},
		{Name: "loopback, hexadecimal end", Host: "127.0.0.0x1"},
		{Name: "loopback, two parts", Host: "127.1"},
		{Name: "loopback, three parts", Host: "127.0.1"},
		{Name: "loopback, mixed bases", Host: "0x7f.1"},
		{Name: "loopback, trailing dot", Host: "127.0.0.1."},
		{Name: "loopback, two trailing dots", Host: "127.0.0.1.."},
		{Name: "loopback, leading dot", Host: ".127.0.0.1"},
		{Name: "loopback, leading zeros", Host: "127.000.000.001"},
		{Name: "loopback, a space", Host: "127.0.0.1 "},
		{Name: "loopback, a NUL", Host: "127.0.0.1\x00.example.com"},
		{Name: "loopback, full-width digits and dots", Host: "１２７。０。０。１"},
		{Name: "loopback, full-width digits", Host: "１２７.０.０.１"},
		{Name: "loopback, circled digits", Host: "①②⑦.⓪.⓪.①"},
		{Name: "loopback, full-width short", Host: "１２７．１"},
		{Name: "loopback, brackets", Host: "[127.0.0.1]"},
		{Name: "loopback, user info", Host: "example.com@127.0.0.1"},
		{Name: "IPv6 loopback", Host: "::1"},
		{Name: "IPv6 loopback, long", Host: "0:0:0:0:0:0:0:1"},
		{Name: "IPv6 loopback, zeros", Host: "0000:0000:0000:0000:0000:0000:0000:0001"},
		{Name: "IPv6 loopback, zone", Host: "::1%lo"},
		{Name: "IPv6 loopback, zone, escaped", Host: "::1%25lo"},
		{Name: "loopback, IPv4-mapped", Host: "::ffff:127.0.0.1"},
		{Name: "loopback, IPv4-mapped, hexadecimal", Host: "::FFFF:7F00:1"},
		{Name: "loopback, IPv4-mapped, zone", Host: "::ffff:127.0.0.1%lo"},
		{Name: "loopback, IPv4-compatible", Host: "::127.0.0.1"},
		{Name: "loopback, IPv4-translated", Host: "::ffff:0:127.0.0.1"},
		{Name: "loopback, NAT64", Host: "64:ff9b::127.0.0.1"},
		{Name: "loopback, NAT64, local use", Host: "64:ff9b:1::7f00:1"},
		{Name: "loopback, NAT64, local use, /48", Host: "64:ff9b:1:7f00:0:100::"},
		{Name: "loopback, 6to4", Host: "2002:7f00:1::"},
		{Name: "loopback, Teredo server", Host: "2001:0:7f00:1::"},
		{Name: "loopback, Teredo client", Host: "2001:0:808:808::80ff:fffe"},
		{Name: "loopback, ISATAP", Host: "2606:4700::5efe:7f00:1"},
		{Name: "localhost", Host: "localhost"},
		{Name: "localhost, upper case", Host: "LOCALHOST"},
		{Name: "localhost, trailing dot", Host: "localhost."},
		{Name: "localhost, below", Host: "a.b.localhost"},
		{Name: "localhost, circled letters", Host: "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"},
		{Name: "localhost, long s", Host: "localhoſt"},
		{Name: "localhost, soft hyphen", Host: "local\u00adhost"},
		{Name: "localhost, punycode", Host: "xn--localhost-"},
		{Name: "unspecified", Host: "0.0.0.0"},
		{Name: "unspecified, one number", Host: "0"},
		{Name: "unspecified, hexadecimal", Host: "0x0"},
		{Name: "this network", Host: "0.1.2.3"},
		{Name: "IPv6 unspecified", Host: "::"},
		{Name: "unspecified, IPv4-mapped", Host: "::ffff:0.0.0.0"},
		{Name: "metadata", Host: "169.254.169.254"},
		{Name: "metadata, decimal", Host: "2852039166"},
		{Name: "metadata, IPv4-mapped", Host: "::ffff:a9fe:a9fe"},
		{Name: "metadata, NAT64", Host: "64:ff9b::a9fe:a9fe"},
		{Name: "metadata, 6to4", Host: "2002:a9fe:a9fe::1"},
		{Name: "metadata, tasks of AWS", Host: "169.254.170.2"},
		{Name: "metadata, AWS, IPv6", Host: "fd00:ec2::254"},
		{Name: "metadata, Google, IPv6", Host: "fd20:ce::254"},
		{Name: "metadata, Oracle", Host: "192.0.0.192"},
		{Name: "metadata, Alibaba", Host: "100.100.100.200"},
		{Name: "Azure's WireServer", Host: "168.63.129.16"},
		{Name: "Azure's WireServer, NAT64", Host: "64:ff9b::a83f:8110"},
		{Name: "link-local, IPv6", Host: "fe80::1"},
		{Name: "link-local, IPv6, zone", Host: "fe80::1%eth0"},
		{Name: "multicast", Host: "224.0.0.1"},
		{Name: "multicast, IPv6", Host: "ff02::1"},
		{Name: "broadcast", Host: "255.255.255.255"},
		{Name: "private, 10/8", Host: "10.255.255.1"},
		{Name: "private, 172.16/12", Host: "172.31.255.1"},
		{Name: "private, 192.168/16", Host: "192.168.255.1"},
		{Name: "shared", Host: "100.64.0.1"},
		{Name: "IETF assignments", Host: "192.0.0.1"},
		{Name: "documentation", Host: "203.0.113.1"},
		{Name: "benchmarks", Host: "198.19.255.1"},
		{Name: "reserved", Host: "240.0.0.1"},
		{Name: "6to4 relay", Host: "192.88.99.1"},
		{Name: "unique local, IPv6", Host: "fc00::1"},
		{Name: "site-local, IPv6", Host: "fec0::1"},
		{Name: "discard, IPv6", Host: "100::1"},
		{Name: "documentation, IPv6", Host: "2001:db8::1"},
		{Name: "ORCHID", Host: "2001:20::1"},
		{Name: "6to4 of a public address", Host: "2002:808:808::1"},
		{Name: "outside 2000::/3", Host: "4000::1"},
		{Name: "nothing", Host: ""},
		{Name: "a dot", Host: "."},
	}
	for _, a := range private {
		forms = append(forms, Form{Name: fmt.Sprintf("own %s", a), Host: a.String()})
		b := a.As16()
		if !a.Is4() {
			continue
		}
		n := uint32(b[12])<<24 | uint32(b[13])<<16 | uint32(b[14])<<8 | uint32(b[15])
		forms = append(
			forms,
			Form{Name: fmt.Sprintf("own %s, IPv4-mapped", a), Host: "::ffff:" + a.String()},
			Form{Name: fmt.Sprintf("own %s, NAT64", a), Host: "64:ff9b::" + a.String()},
			Form{Name: fmt.Sprintf("own %s, decimal", a), Host: strconv.FormatUint(uint64(n), 10)},
			Form{Name: fmt.Sprintf("own %s, hexadecimal", a), Host: fmt.Sprintf("0x%08x", n)},
			Form{Name: fmt.Sprintf("own %s, octal", a), Host: fmt.Sprintf("0%o.0%o.0%o.0%o", b[12], b[13], b[14], b[15])},
			Form{Name: fmt.Sprintf("own %s, trailing dot", a), Host: a.String() + "."},
		)
	}
	for i := range forms {
		forms[i].Port = port
	}
	return forms
}
