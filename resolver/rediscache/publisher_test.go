package rediscache

import (
	"fmt"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestPublishMovesKeysUpOnly(t *testing.T) {
	s := testenv.Redis(t)
	c := open(t, s, nil)
	p := c.NewPublisher()
	get := func(key string) string { v, _ := command(t, s, "GET", key).(string); return v }
	for _, step := range []struct {
		ms             []connector.Message
		revision, sent string
	}{
		{[]connector.Message{{ID: 5, Tenant: acme, Revision: 20}, {ID: 4, Tenant: acme, Revision: 19}}, "20", "5"},
		{[]connector.Message{{ID: 3, Tenant: acme, Revision: 18}}, "20", "5"}, // a replay
		{[]connector.Message{{ID: 6, Tenant: globex, Revision: 1}}, "20", "6"},
		{[]connector.Message{{ID: 9}}, "20", "9"},
		{nil, "20", "9"},
	} {
		if err := p.Publish(t.Context(), step.ms); err != nil {
			t.Fatal(err)
		}
		if r, sent := get(c.revisionKey(acme)), get(c.sentinelKey()); r != step.revision || sent != step.sent {
			t.Errorf("after %v: revision %s, sentinel %s", step.ms, r, sent)
		}
	}
}

// A batch costs two round trips, not one per message: 500 rows of an import over
// a link of 5 ms would never get through.
func TestPublishIsBatched(t *testing.T) {
	c := open(t, testenv.Redis(t), nil)
	sub := subscribe(t, c)
	p := c.NewPublisher()
	var ms []connector.Message
	for i := range int64(500) {
		ms = append(ms, connector.Message{ID: i + 1, Tenant: tenant.MustID(fmt.Sprint("t", i%50)), Revision: i})
	}
	before := c.rdb.PoolStats()
	if err := p.Publish(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	after := c.rdb.PoolStats()
	if got := after.Hits + after.Misses - before.Hits - before.Misses; got > 3 { // 3: the script was unknown
		t.Errorf("%d uses of a connection", got)
	}
	for i := range int64(500) {
		if ev, err := next(t, sub); err != nil || ev.Number != i+1 || ev.Message.ID != i+1 {
			t.Fatalf("event %d: %+v, %v", i, ev, err)
		}
	}
}

// A heartbeat is a statement about what was checked. The server itself refuses
// it when it is no longer what was checked.
func TestHeartbeatOnlyWhileTheCheckHolds(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, s *testenv.RedisServer, c *Client, st *resolver.Standing)
		within time.Duration
		want   bool
	}{
		{"nothing happened", func(*testing.T, *testenv.RedisServer, *Client, *resolver.Standing) {}, time.Minute, true},
		{"the server restarted", func(t *testing.T, s *testenv.RedisServer, c *Client, _ *resolver.Standing) {
			s.Kill()
			s.Start(t)
			wait(t, "it answers", patience, func() bool { return c.Ping(t.Context()) == nil })
		}, time.Minute, false},
		{"the keys were flushed", func(t *testing.T, s *testenv.RedisServer, _ *Client, _ *resolver.Standing) {
			command(t, s, "FLUSHALL")
		}, time.Minute, false},
		{"the sentinel went back", func(t *testing.T, s *testenv.RedisServer, c *Client, _ *resolver.Standing) {
			command(t, s, "SET", c.sentinelKey(), "6")
		}, time.Minute, false},
		{"another relay was ahead", func(t *testing.T, s *testenv.RedisServer, c *Client, _ *resolver.Standing) {
			command(t, s, "SET", c.sentinelKey(), "8")
		}, time.Minute, true},
		{"it replicates from another now", func(_ *testing.T, _ *testenv.RedisServer, _ *Client, st *resolver.Standing) {
			st.Identity += "0"
		}, time.Minute, false},
		{"the check is too old", func(_ *testing.T, _ *testenv.RedisServer, _ *Client, st *resolver.Standing) {
			st.At -= 150
		}, 150 * time.Millisecond, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := testenv.NewRedis(t)
			c := open(t, s, nil)
			p := c.NewPublisher()
			if err := p.Publish(t.Context(), []connector.Message{{ID: 7, Tenant: acme, Revision: 11}}); err != nil {
				t.Fatal(err)
			}
			st, err := p.State(t.Context())
			if err != nil || st.Sentinel != 7 || st.Identity == "/" || st.At == 0 {
				t.Fatal(st, err)
			}
			tc.change(t, s, c, &st)
			sub := subscribe(t, c)
			if ok, err := p.Heartbeat(t.Context(), st, tc.within); err != nil || ok != tc.want {
				t.Errorf("published %v, %v", ok, err)
			}
			// A refused one leaves no gap behind.
			if err := p.Publish(t.Context(), []connector.Message{{ID: 8, Tenant: acme, Revision: 12}}); err != nil {
				t.Fatal(err)
			}
			first, err := next(t, sub)
			if err != nil || first.Number != 2 || (first.Kind == resolver.EventHeartbeat) != tc.want {
				t.Errorf("%+v, %v", first, err)
			}
		})
	}
}

func TestRestartChangesIdentity(t *testing.T) {
	s := testenv.NewRedis(t)
	p := open(t, s, nil).NewPublisher()
	before, err := p.State(t.Context())
	if err != nil || before.Sentinel != -1 {
		t.Fatal(before, err)
	}
	s.Kill()
	if _, err := p.State(t.Context()); err == nil {
		t.Error("a dead server has a state")
	}
	s.Start(t)
	var after resolver.Standing
	wait(t, "it answers", patience, func() bool { after, err = p.State(t.Context()); return err == nil })
	if before.Identity == after.Identity {
		t.Errorf("the identity stayed %s", after.Identity)
	}
}
