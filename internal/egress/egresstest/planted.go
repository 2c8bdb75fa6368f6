package egresstest

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Planted are servers on the inside, all on one port: one on loopback of each
// family that the machine has, and one on each of its private addresses. They
// count who connects and close the connection. Safe for concurrent use.
type Planted struct {
	Port    uint16
	Private []netip.Addr // the machine's own private addresses; may be empty

	servers []*server
}

type server struct {
	address  string
	listener net.Listener

	mu    sync.Mutex
	peers []string      // who connected; guarded by mu
	more  chan struct{} // somebody did
}

// Plant starts the servers; they end with the test.
func Plant(t testing.TB) *Planted {
	t.Helper()
	private := ownPrivate(t)
	// A port that is free on one address may be taken on the next.
	for range 20 {
		if p := plant(t, private); p != nil {
			return p
		}
	}
	t.Fatal("no port is free on all addresses of this machine")
	return nil
}

func plant(t testing.TB, private []netip.Addr) *Planted {
	t.Helper()
	first, err := listen(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Planted{Port: first.Addr().(*net.TCPAddr).AddrPort().Port()} //nolint:forcetypeassert // a TCP listener has a TCP address
	listeners := []net.Listener{first}
	for _, a := range append([]netip.Addr{netip.IPv6Loopback()}, private...) {
		l, err := listen(t, netip.AddrPortFrom(a, p.Port).String())
		switch {
		case err == nil:
			listeners = append(listeners, l)
			if !a.IsLoopback() {
				p.Private = append(p.Private, a)
			}
		case strings.Contains(err.Error(), "address already in use"):
			for _, l := range listeners {
				_ = l.Close()
			}
			return nil
		}
	}
	for _, l := range listeners {
		s := &server{address: l.Addr().String(), listener: l, more: make(chan struct{}, 1)}
		p.servers = append(p.servers, s)
		done := make(chan struct{})
		go func() { defer close(done); s.serve() }()
		t.Cleanup(func() { _ = l.Close(); <-done })
	}
	return p
}

func listen(t testing.TB, address string) (net.Listener, error) {
	t.Helper()
	var c net.ListenConfig
	return c.Listen(t.Context(), "tcp", address)
}

func (s *server) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.peers = append(s.peers, c.RemoteAddr().String())
		s.mu.Unlock()
		_ = c.Close()
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

// Forms are [Forms] at the servers' port, with the machine's own addresses.
func (p *Planted) Forms() []Form { return Forms(p.Port, p.Private...) }

// Check fails the test when anybody reached a server since the start. To know that
// nobody is still on the way, and that the servers count at all, it connects to
// each itself and waits until it was seen: connections are accepted in order.
func (p *Planted) Check(t testing.TB) {
	t.Helper()
	for _, s := range p.servers {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", s.address)
		if err != nil {
			t.Errorf("the planted server %s can't be reached by the test: %v", s.address, err)
			continue
		}
		own := c.LocalAddr().String()
		deadline := time.After(10 * time.Second)
		for !s.forget(own) {
			select {
			case <-s.more:
			case <-deadline:
				t.Fatalf("the planted server %s did not see the test's own connection", s.address)
			}
		}
		_ = c.Close()
		s.mu.Lock()
		if len(s.peers) > 0 {
			t.Errorf("%s was reached %d times, from %s", s.address, len(s.peers), strings.Join(s.peers, ", "))
		}
		s.mu.Unlock()
	}
}

// forget takes a peer off those that connected, and tells whether it had.
func (s *server) forget(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.peers, peer)
	if i >= 0 {
		s.peers = slices.Delete(s.peers, i, i+1)
	}
	return i >= 0
}

// ownPrivate lists the machine's own addresses that are neither loopback nor
// link-local.
func ownPrivate(t testing.TB) (own []netip.Addr) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		ip, ok := n.(*net.IPNet)
		if !ok {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.IP)
		if a = a.Unmap(); ok && (a.IsPrivate() || documentation.Contains(a)) {
			own = append(own, a)
		}
	}
	return own
}

// documentation: some sandboxes give their machines such an address.
var documentation = netip.MustParsePrefix("192.0.2.0/24")
