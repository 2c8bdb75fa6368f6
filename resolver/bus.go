package resolver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// Bus is the embedded Feed and Publisher: relay and sidecar in one process.
// The zero Bus is not usable; see NewBus.
type Bus struct {
	mu       sync.Mutex
	name     string
	number   int64
	sentinel int64
	subs     map[*busSubscription]struct{}
}

// NewBus returns a Bus without subscribers.
func NewBus() *Bus {
	return &Bus{name: "embedded", sentinel: -1, subs: make(map[*busSubscription]struct{})}
}

// errSlow ends a subscription that does not keep up: better a break, which is
// checked, than a relay that waits for a reader.
var errSlow = errors.New("the subscriber does not keep up")

type busSubscription struct {
	bus    *Bus
	events chan Event
	once   sync.Once
	closed chan struct{}
}

// Subscribe implements Feed.
func (b *Bus) Subscribe(context.Context) (Subscription, error) {
	s := &busSubscription{bus: b, events: make(chan Event, 1024), closed: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[s] = struct{}{}
	return s, nil
}

func (s *busSubscription) Ping(context.Context) error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.deliver(Event{Kind: EventPong})
	return nil
}

// deliver is called with the bus locked, so that events keep their order.
func (s *busSubscription) deliver(ev Event) {
	select {
	case s.events <- ev:
	default:
		s.end()
	}
}

func (s *busSubscription) end() { s.once.Do(func() { close(s.closed) }) }

func (s *busSubscription) Receive(ctx context.Context) (Event, error) {
	select {
	case <-s.closed:
		return Event{}, errSlow
	default:
	}
	select {
	case ev := <-s.events:
		return ev, nil
	case <-s.closed:
		return Event{}, errSlow
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

func (s *busSubscription) Close() error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
	s.end()
	return nil
}

// Publish implements Publisher.
func (b *Bus) Publish(_ context.Context, ms []connector.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range ms {
		b.sentinel = max(b.sentinel, m.ID)
		if !m.Tenant.IsZero() {
			b.send(Event{Kind: EventMessage, Message: m})
		}
	}
	return nil
}

// State implements Publisher.
func (b *Bus) State(context.Context) (Standing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Standing{Identity: b.name, Sentinel: b.sentinel, At: time.Now().UnixMilli()}, nil
}

// Heartbeat implements Publisher. A Bus never restarts.
func (b *Bus) Heartbeat(_ context.Context, s Standing, within time.Duration) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().UnixMilli()-s.At >= within.Milliseconds() {
		return false, nil
	}
	b.send(Event{Kind: EventHeartbeat})
	return true, nil
}

func (b *Bus) send(ev Event) {
	b.number++
	ev.Publisher, ev.Number = b.name, b.number
	for s := range b.subs {
		s.deliver(ev)
	}
}
