package egress

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
)

// Servers that become known while the process runs are as forbidden as those that
// the config names, however open it is, and from the next dial on.
func TestOwnServersThatTurnUp(t *testing.T) {
	t.Parallel()
	inside := egresstest.Plant(t)
	dns := egresstest.StartDNS(t)
	// The nodes announce themselves by a name that leads to loopback.
	dns.Set("node-1.redis.corp", []netip.Addr{loopbacks[0]})
	dns.Set("mail.example.com", []netip.Addr{loopbacks[0]})
	var list atomic.Pointer[[]string]
	list.Store(&[]string{})
	d := newDialer(t, Config{
		Allow: []string{"0.0.0.0/0", "::/0", "node-1.redis.corp"}, AnyLoopback: true, Resolver: dns.Resolver(),
		Own: func() []string { return *list.Load() },
	})
	hosts := []string{"127.0.0.1", "127.8.9.10", "localhost", "::ffff:127.0.0.1", "node-1.redis.corp", "mail.example.com"}
	_, port := origin(t, nil)
	for _, row := range []struct {
		name string
		own  []string
	}{
		{"an address", []string{at("127.0.0.1", inside.Port)}},
		{"a name", []string{at("node-1.redis.corp", inside.Port)}},
		{"beside what can't be read", []string{"redis_1.7:6379", "[fe80::1%eth0]:6379", "/run/redis.sock", "", at("127.0.0.1", inside.Port)}},
		{"every port", []string{"127.0.0.1"}},
	} {
		list.Store(&row.own)
		for _, host := range hosts {
			if err := reached(t, d, "tcp", at(host, inside.Port)); !errors.Is(err, ErrDenied) {
				t.Errorf("%s: %s: %v", row.name, host, err)
			}
		}
		if row.name == "every port" {
			continue
		}
		// The policy is open but for them.
		if err := reached(t, d, "tcp", at("127.0.0.1", port)); err != nil {
			t.Errorf("%s: what is not listed: %v", row.name, err)
		}
	}
	for _, a := range inside.Private {
		own := []string{netip.AddrPortFrom(a, inside.Port).String()}
		list.Store(&own)
		if err := reached(t, d, "tcp", own[0]); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", own[0], err)
		}
	}
	inside.Check(t)
	// A server that is gone from the list is nobody's.
	list.Store(&[]string{at("127.0.0.1", port)})
	if err := reached(t, d, "tcp", at("127.0.0.1", port)); !errors.Is(err, ErrDenied) {
		t.Errorf("the list changed and the dial did not: %v", err)
	}
	list.Store(&[]string{})
	if err := reached(t, d, "tcp", at("127.0.0.1", port)); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

// What a listed name was looked up as is kept while the list changes around it: a
// change is no reason to ask again, or to forget where it was.
func TestOwnServersKeepWhatIsKnown(t *testing.T) {
	t.Parallel()
	texts := []string{"redis-1:6379"}
	o := own{source: func() []string { return texts }}
	first := o.now().names[0]
	if again := o.now(); again != o.both {
		t.Error("the same list was read again")
	}
	texts = []string{"redis-1:6379", "redis-2:6379", "10.0.0.1:6379"}
	s := o.now()
	if len(s.names) != 2 || s.names[0] != first || len(s.addrs) != 1 {
		t.Errorf("%+v", s)
	}
	texts = nil
	if s := o.now(); len(s.names)+len(s.addrs) != 0 {
		t.Errorf("%+v", s)
	}
	// Under -race: many dials at once while the list changes.
	var n atomic.Int64
	o = own{source: func() []string { return []string{at("10.0.0.1", uint16(1+n.Add(1)%2))} }}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if len(o.now().addrs) != 1 {
					t.Error("half a list")
				}
			}
		})
	}
	wg.Wait()
}
