package rediscache

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/resolver"
)

// frame is one published message or, without Message, a heartbeat.
type frame struct {
	Publisher string             `json:"p"`
	Number    int64              `json:"n"`
	Message   *connector.Message `json:"m,omitempty"`
}

// Subscribe implements resolver.Feed: it returns when Redis has acknowledged
// the SUBSCRIBE.
func (c *Client) Subscribe(ctx context.Context) (resolver.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*c.timeout)
	defer cancel()
	ps := c.rdb.Subscribe(ctx, c.channel())
	got, err := ps.ReceiveTimeout(ctx, 10*c.timeout)
	if err == nil {
		if _, ok := got.(*redis.Subscription); ok {
			return &subscription{ps: ps}, nil
		}
		err = errUnexpected
	}
	_ = ps.Close() // it never became a subscription
	return nil, fault.New(fault.Unavailable, "Redis did not take the subscription").WithCause(err)
}

var errUnexpected = fault.New(fault.Unavailable, "Redis sent something else than expected")

type subscription struct {
	ps   *redis.PubSub
	once sync.Once
	err  error
}

func (s *subscription) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return classify(s.ps.Ping(ctx))
}

// Receive implements resolver.Subscription. go-redis connects and subscribes
// again by itself after a loss; a second acknowledgement is therefore a break,
// in which messages may have been missed.
func (s *subscription) Receive(ctx context.Context) (resolver.Event, error) {
	got, err := s.ps.Receive(ctx)
	if err != nil {
		return resolver.Event{}, fault.New(fault.Unavailable, "the subscription ended").WithCause(err)
	}
	switch m := got.(type) {
	case *redis.Pong:
		return resolver.Event{Kind: resolver.EventPong}, nil
	case *redis.Message:
		var f frame
		if err := json.Unmarshal([]byte(m.Payload), &f); err != nil || f.Publisher == "" {
			return resolver.Event{}, errUnexpected
		}
		ev := resolver.Event{Kind: resolver.EventHeartbeat, Publisher: f.Publisher, Number: f.Number}
		if f.Message != nil {
			ev.Kind, ev.Message = resolver.EventMessage, *f.Message
		}
		return ev, nil
	default:
		return resolver.Event{}, errUnexpected
	}
}

func (s *subscription) Close() error {
	s.once.Do(func() { s.err = s.ps.Close() })
	return s.err
}
