package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Loopback says which ports of loopback addresses tenants may name: a way to a
// server beside the sidecar, which the hard deny of egress would refuse.
// It is written as true, false or a list of ports. The zero Loopback is none.
type Loopback struct {
	All   bool
	Ports []int // 1 to 65535; without All
}

// egress checks what opens a way inside. An entry that means something else than
// its writer believes opens another one, so nothing is read generously.
func (l *loader) egress() {
	for i, a := range l.c.Egress.Allow {
		if message := allowProblem(a); message != "" {
			l.bad(fmt.Sprintf("egress.allow[%d]", i), message)
		}
	}
	for i, p := range l.c.Egress.AllowLoopback.Ports {
		if p < 1 || p > 65535 {
			l.bad(fmt.Sprintf("egress.allow_loopback[%d]", i), badPort)
		}
	}
}

const (
	badAllow = "expected an address, a prefix or a host name, each with or without :port"
	badPort  = "a port is a number from 1 to 65535"
)

// allowProblem says what is wrong with an entry of egress.allow, or "". The
// forms are an address, a prefix (CIDR) and a host name, each with an optional
// port; IPv6 with a port stands in brackets: [fd00::25]:587, [fd00::/8]:587.
func allowProblem(entry string) string {
	host, port, ported := entry, "", false
	inside, rest, closed := strings.Cut(strings.TrimPrefix(entry, "["), "]")
	switch {
	case strings.Contains(entry, "://"):
		return badAllow
	case strings.HasPrefix(entry, "["):
		if !closed || !strings.Contains(inside, ":") || !strings.HasPrefix(rest, ":") {
			return "brackets are for IPv6 with a port, such as [fd00::25]:587"
		}
		host, port, ported = inside, rest[1:], true
	case strings.Count(entry, ":") == 1:
		host, port, ported = strings.Cut(entry, ":")
	}
	if n, err := strconv.ParseUint(port, 10, 16); ported && (err != nil || n == 0) {
		return badPort
	}
	if strings.Contains(host, "/") {
		return prefixProblem(host)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return addressProblem(a)
	}
	return nameProblem(host)
}

func prefixProblem(text string) string {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return "expected a prefix, such as 10.20.0.0/16 or fd00::/8"
	case p.Addr().Is4In6():
		return "is an IPv4 prefix in IPv6's form; write it as IPv4's"
	case p != p.Masked():
		return "has bits set behind its length; write " + p.Masked().String()
	default:
		return ""
	}
}

func addressProblem(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "an address has no zone here"
	case a.Is4In6():
		return "is an IPv4 address in IPv6's form; write " + a.Unmap().String()
	default:
		return ""
	}
}

// label is a label of a host name (RFC 1123, section 2.1); number is one that a
// resolver written in C may read as a part of an address: 127.1, 0x7f.1, 1.
var (
	label  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	number = regexp.MustCompile(`^([0-9]+|0[xX][0-9A-Fa-f]*)$`)
)

func nameProblem(name string) string {
	if strings.Contains(name, "*") {
		return "wildcards are not supported; list the names, or the prefix that they lead to"
	}
	labels := strings.Split(name, ".")
	for _, s := range labels {
		if !label.MatchString(s) {
			return badAllow
		}
	}
	if len(name) > 253 || number.MatchString(labels[len(labels)-1]) {
		return badAllow
	}
	return ""
}
