package rediscache

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// next returns the next event within a deadline.
func next(t *testing.T, sub resolver.Subscription) (resolver.Event, error) {
	t.Helper()
	type outcome struct {
		ev  resolver.Event
		err error
	}
	got := make(chan outcome, 1)
	go func() {
		ev, err := sub.Receive(t.Context())
		got <- outcome{ev, err}
	}()
	select {
	case out := <-got:
		return out.ev, out.err
	case <-time.After(patience):
		t.Fatal("nothing was received")
		return resolver.Event{}, nil
	}
}

func subscribe(t *testing.T, c *Client) resolver.Subscription {
	t.Helper()
	sub, err := c.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

// Each publisher numbers messages and heartbeats together, from one, without
// gaps: what a sidecar needs to see that something is missing.
func TestNumbersPerPublisher(t *testing.T) {
	c := open(t, testenv.Redis(t), nil)
	sub := subscribe(t, c) // acknowledged: what is published from here on arrives
	a, b := c.NewPublisher(), c.NewPublisher()
	message := connector.Message{
		ID: 7, Tenant: acme, Revision: 12, Organization: hq, Category: "storage",
		Connector: connector.NewID(), At: time.Now().UTC().Truncate(time.Second),
	}
	beat := func(p *Publisher) {
		t.Helper()
		s, err := p.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.Heartbeat(t.Context(), s, time.Minute); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	publish := func(p *Publisher, ms ...connector.Message) {
		t.Helper()
		if err := p.Publish(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
	}
	publish(a, message, connector.Message{ID: 8, Tenant: globex, Revision: 3, Status: true})
	beat(b)
	beat(a)
	publish(b, connector.Message{ID: 9}) // the sentinel only: no message, no number
	publish(b, message)

	want := []struct {
		kind   resolver.EventKind
		from   string
		number int64
	}{
		{resolver.EventMessage, a.name, 1}, {resolver.EventMessage, a.name, 2},
		{resolver.EventHeartbeat, b.name, 1}, {resolver.EventHeartbeat, a.name, 3}, {resolver.EventMessage, b.name, 2},
	}
	for i, w := range want {
		ev, err := next(t, sub)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind != w.kind || ev.Publisher != w.from || ev.Number != w.number {
			t.Errorf("event %d: %+v, want %+v", i, ev, w)
		}
		if i == 0 && ev.Message != message {
			t.Errorf("the message arrived as %+v", ev.Message)
		}
	}
	if a.name == b.name {
		t.Error("two publishers share a name")
	}
}

func TestPongAnswersPing(t *testing.T) {
	sub := subscribe(t, open(t, testenv.Redis(t), nil))
	if err := sub.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ev, err := next(t, sub); err != nil || ev.Kind != resolver.EventPong {
		t.Errorf("%+v, %v", ev, err)
	}
}

// The client library connects again by itself. A subscription must not survive
// that: what was published in between is missing.
func TestLostConnectionEndsTheSubscription(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, s *testenv.RedisServer, c *Client, sub resolver.Subscription)
	}{
		{"the server closes it", func(t *testing.T, s *testenv.RedisServer, _ *Client, _ resolver.Subscription) {
			command(t, s, "CLIENT", "KILL", "TYPE", "pubsub")
		}},
		{"a ping finds out first, and the library subscribes again", func(t *testing.T, s *testenv.RedisServer, _ *Client, sub resolver.Subscription) {
			command(t, s, "CLIENT", "KILL", "TYPE", "pubsub")
			wait(t, "subscribed again", patience, func() bool {
				_ = sub.Ping(t.Context())
				list, _ := command(t, s, "CLIENT", "LIST", "TYPE", "pubsub").(string)
				return list != ""
			})
		}},
		{"the server dies", func(_ *testing.T, s *testenv.RedisServer, _ *Client, _ resolver.Subscription) { s.Kill() }},
		{"somebody else writes on the channel", func(t *testing.T, s *testenv.RedisServer, c *Client, _ resolver.Subscription) {
			command(t, s, "PUBLISH", c.channel(), "hello")
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := testenv.NewRedis(t)
			c := open(t, s, nil)
			sub := subscribe(t, c)
			tc.do(t, s, c, sub)
			if ev, err := next(t, sub); err == nil {
				t.Errorf("received %+v", ev)
			}
		})
	}
}

func TestCloseEndsReceive(t *testing.T) {
	sub := subscribe(t, open(t, testenv.Redis(t), nil))
	got := make(chan error, 1)
	go func() {
		_, err := sub.Receive(context.Background())
		got <- err
	}()
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if err == nil {
			t.Error("received from a closed subscription")
		}
	case <-time.After(patience):
		t.Fatal("Receive did not end")
	}
}

// A whole fleet of two sidecars and a relay around one real Redis.
func TestChangeReachesSidecars(t *testing.T) {
	s := testenv.NewRedis(t)
	w := newWorld()
	c := open(t, s, nil)
	relay := resolver.NewRelay(w, c.NewPublisher(), nil)
	background(t, relay.Run)
	first, second := sidecar(t, w, c), sidecar(t, w, open(t, s, func(o *Options) { o.Prefix = c.prefix }))
	connected := func() bool { return first.Connected() && second.Connected() }
	wait(t, "connected", patience, connected)

	if b, a := bucketOf(t, first); b != "one" || a.Source != resolver.FromDatabase {
		t.Fatalf("%q from %s", b, a.Source)
	}
	if b, a := bucketOf(t, second); b != "one" || a.Source != resolver.FromRedis {
		t.Fatalf("%q from %s", b, a.Source)
	}
	if w.reads.Load() != 1 || w.secretReads.Load() != 2 {
		t.Errorf("%d reads of the database and %d of Vault by two sidecars", w.reads.Load(), w.secretReads.Load())
	}
	w.change("two")
	for _, r := range []*resolver.Resolver{first, second} {
		wait(t, "the change arrives", patience, func() bool { b, _ := bucketOf(t, r); return b == "two" })
	}

	// Frozen: nobody is connected any more, and answers go on.
	s.Pause()
	wait(t, "not connected to a frozen Redis", patience, func() bool { return !first.Connected() && !second.Connected() })
	if b, _ := bucketOf(t, first); b != "two" {
		t.Errorf("%q", b)
	}
	s.Resume()
	wait(t, "connected again", patience, connected)

	// Killed, with everything that was in it: the relay sends again what a
	// restarted server can't know.
	s.Kill()
	w.change("three")
	wait(t, "not connected to nothing", patience, func() bool { return !first.Connected() })
	s.Start(t)
	wait(t, "connected to the new server", patience, connected)
	for _, r := range []*resolver.Resolver{first, second} {
		wait(t, "the change arrives", patience, func() bool { b, _ := bucketOf(t, r); return b == "three" })
	}
	if relay.Replayed.Load() == 0 {
		t.Error("nothing was sent again")
	}
	if got := command(t, s, "GET", c.revisionKey(acme)); got != "12" {
		t.Errorf("the revision key holds %v after the replay", got)
	}
}

// Redis holds records, revisions and ids: no secret, in no key, no value and no
// message.
func TestNoSecretInRedis(t *testing.T) {
	s := testenv.NewRedis(t)
	w := newWorld()
	c := open(t, s, nil)
	listener := c.rdb.Subscribe(t.Context(), c.channel())
	t.Cleanup(func() { _ = listener.Close() })
	if _, err := listener.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	relay := resolver.NewRelay(w, c.NewPublisher(), nil)
	background(t, relay.Run)
	r := sidecar(t, w, c)
	w.change("two")
	if _, a := bucketOf(t, r); !strings.Contains(string(a.Body.Reveal()), canary) {
		t.Fatal("the answer lacks its secret")
	}
	w.change("three")
	wait(t, "messages and heartbeats", patience, func() bool { return relay.Sent.Load() == 2 && relay.Beats.Load() > 0 })
	bucketOf(t, r)
	for range 3 {
		m, err := listener.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.Payload, canary) {
			t.Errorf("a message holds the secret: %s", m.Payload)
		}
	}
	keys := allKeys(t, s)
	if len(keys) != 3 {
		t.Errorf("keys %q", keys)
	}
	for _, k := range keys {
		value, _ := command(t, s, "GET", k).(string)
		if value == "" || strings.Contains(k+value, canary) {
			t.Errorf("%s holds %q", k, value)
		}
	}
}

// Every key of a tenant hashes by its tag alone, whatever the names are.
func TestHashTag(t *testing.T) {
	c := open(t, testenv.Redis(t), nil)
	for _, id := range []tenant.ID{acme, tenant.MustID("a-b_c"), tenant.MustID(strings.Repeat("x", 63))} {
		k := resolver.SharedKey{Tenant: id, Name: "c:hq:{}"}
		for _, key := range []string{c.revisionKey(id), c.entryKey(k)} {
			_, rest, _ := strings.Cut(key, "{")
			if tag, _, _ := strings.Cut(rest, "}"); tag != id.String() {
				t.Errorf("%s has the tag %q", key, tag)
			}
		}
	}
}
