package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// backendFresh is how long the addresses of an own server are taken as known: a
	// storm of dials is no storm of look-ups.
	backendFresh = 10 * time.Second
	// backendKept is how long an address stays denied after it was last answered: a
	// name with many addresses answers with some of them at a time.
	backendKept = 10 * time.Minute
)

// backend is one of the sidecar's own servers that is known by name. What the
// name resolves to is denied, however a tenant spells the way there.
type backend struct {
	hostPort

	mu    sync.Mutex
	asked time.Time                // when the addresses were last asked for; guarded by mu
	seen  map[netip.Addr]time.Time // when each was last answered; guarded by mu
}

// answersAt tells whether the server is at a. An error means that it can't be
// said now. A name that does not exist is no error: nothing is there to protect.
func (b *backend) answersAt(ctx context.Context, r Resolver, a netip.Addr) (bool, error) {
	now := time.Now()
	b.mu.Lock()
	fresh := !b.asked.IsZero() && now.Sub(b.asked) < backendFresh
	if len(b.seen) > 0 {
		// One asks, the others go by what is known: a DNS server that hangs would else
		// hold up every dial at this port.
		b.asked = now
	}
	b.mu.Unlock()
	var (
		addrs []netip.Addr
		err   error
	)
	if !fresh {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		addrs, err = r.LookupNetIP(ctx, "ip", b.name)
		cancel()
		if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
			addrs, err = nil, nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case fresh:
	case err == nil:
		b.asked = now
		for _, found := range addrs {
			b.seen[plain(found)] = now
		}
		for found, at := range b.seen {
			if now.Sub(at) > backendKept {
				delete(b.seen, found)
			}
		}
	case len(b.seen) == 0:
		return false, err
	}
	for _, f := range append([]netip.Addr{a}, embedded(a)...) {
		for found := range b.seen {
			if same(found, f) {
				return true, nil
			}
		}
	}
	return false, nil
}
