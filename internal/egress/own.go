package egress

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// servers are the sidecar's own, which no tenant may reach.
type servers struct {
	addrs []netip.AddrPort // port 0 is every port
	names []*backend
}

// add reads one entry of Config.DenyHosts or Config.Own. known are the backends
// that may be taken over, with what they have looked up; may be nil.
func (s *servers) add(text string, known map[hostPort]*backend) error {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "@") {
		return nil // a Unix socket, which is never dialled
	}
	e, err := parseEntry(text)
	switch {
	case err != nil:
		return err
	case e.name == "" && !e.prefix.IsSingleIP():
		return misspelt("a range")
	case e.name == "":
		s.addrs = append(s.addrs, netip.AddrPortFrom(e.prefix.Addr(), e.port))
	case isLocalhost(e.name):
		s.addrs = append(s.addrs, netip.AddrPortFrom(loopbacks[0], e.port))
	default:
		h := hostPort{e.name, e.port}
		b := known[h]
		if b == nil {
			b = &backend{hostPort: h, seen: map[netip.Addr]time.Time{}}
		}
		s.names = append(s.names, b)
	}
	return nil
}

// at tells whether one of them answers there. One that listens on a loopback
// address may answer on all of them, and one that listens on the unspecified
// address answers on each of this machine's.
func (s *servers) at(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(s.addrs, func(d netip.AddrPort) bool {
		return fits(d.Port(), port) && same(d.Addr(), a)
	})
}

// named tells whether a name is one of theirs.
func (s *servers) named(name string, port uint16) bool {
	return slices.ContainsFunc(s.names, func(b *backend) bool { return b.name == name && fits(b.port, port) })
}

// own are the servers that the Config lists, and those that its source lists now.
type own struct {
	fixed  servers
	source func() []string // nil: none

	mu    sync.Mutex
	texts []string // what the source listed last; guarded by mu
	both  *servers // fixed and those of texts, never changed once made; nil at first; guarded by mu
}

// now is all of them. Entries are read again only when the source lists others,
// since each address of each dial asks.
func (o *own) now() *servers {
	if o.source == nil {
		return &o.fixed
	}
	texts := o.source()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.both != nil && slices.Equal(texts, o.texts) {
		return o.both
	}
	both := &servers{addrs: slices.Clone(o.fixed.addrs), names: slices.Clone(o.fixed.names)}
	known := map[hostPort]*backend{}
	last := &o.fixed
	if o.both != nil {
		last = o.both // the fixed ones among them
	}
	for _, b := range last.names {
		known[b.hostPort] = b
	}
	for _, text := range texts {
		_ = both.add(text, known) // skipped, as Config.Own says: refusing all dials would let one node's odd name stop every tenant
	}
	o.texts, o.both = slices.Clone(texts), both
	return both
}

func same(backend, a netip.Addr) bool {
	switch {
	case backend == a, backend.IsLoopback() && a.IsLoopback():
		return true
	case backend.IsUnspecified():
		return a.IsLoopback() || isOwn(a)
	default:
		return false
	}
}

// isOwn tells whether an address is one of this machine's. Asked each time:
// addresses come and go.
func isOwn(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // fails closed
	}
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		ip, ok := n.(*net.IPNet)
		if !ok {
			return false
		}
		o, ok := netip.AddrFromSlice(ip.IP)
		return ok && plain(o) == a
	})
}
