package rediscache

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxDialled bounds what is remembered of a fleet of Redis that moves for ever, as
// pods do. It is far above the nodes of one cluster.
const maxDialled = 512

// dialFunc opens one connection, as go-redis' options want it.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialled remembers where connections went: the masters that sentinels name, the
// nodes that a cluster lists, and the addresses behind names. Whoever was dialled
// stays for good, but for the bound: a master that failed comes back as a replica.
type dialled struct {
	mu   sync.Mutex
	last map[string]time.Time // by host:port; guarded by mu
	list []string             // sorted, never changed once made; guarded by mu
}

// wrap makes a dial function that remembers: the address that it is asked for,
// because a node may answer next time what it refuses now, and the address that it
// reached, because a name has many.
func (d *dialled) wrap(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network != "unix" {
			d.add(address)
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil { // a Unix socket has none
			d.add(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String())
		}
		return c, nil
	}
}

func (d *dialled) add(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.last[address]; !ok {
		list := append(slices.Clone(d.list), address)
		if len(list) > maxDialled {
			oldest := list[0]
			for _, a := range d.list {
				if d.last[a].Before(d.last[oldest]) {
					oldest = a
				}
			}
			delete(d.last, oldest)
			list = slices.DeleteFunc(list, func(a string) bool { return a == oldest })
		}
		slices.Sort(list)
		d.list = list
	}
	d.last[address] = time.Now()
}

func (d *dialled) addresses() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list
}

// Servers lists Redis' addresses as host:port, sorted: the configured ones, and
// each that a connection was opened or tried to since the start (at most 512, the
// latest), names and the addresses behind them. It does not block on Redis. The
// egress policy keeps tenants from them.
//
// Not listed: nodes that this client never spoke to, such as replicas. Those of a
// cluster, and further sentinels, can be named in Options.Addrs.
func (c *Client) Servers() []string {
	all := slices.Concat(c.servers, c.dialled.addresses())
	slices.Sort(all)
	return slices.Compact(all)
}
