package resolver

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// publisher is a Bus whose steps a test can fail, slow and count.
type publisher struct {
	*Bus
	fail      atomic.Bool
	slow      atomic.Int64 // ns that State takes
	slowBeat  atomic.Int64 // ns that a heartbeat takes to the server
	published []int64      // ids, in order
	beats     atomic.Int64
}

func (p *publisher) Publish(ctx context.Context, ms []connector.Message) error {
	if p.fail.Load() {
		return errDown
	}
	for _, m := range ms {
		if !m.Tenant.IsZero() {
			p.published = append(p.published, m.ID)
		}
	}
	return p.Bus.Publish(ctx, ms)
}

func (p *publisher) State(ctx context.Context) (Standing, error) {
	s, err := p.Bus.State(ctx)
	time.Sleep(time.Duration(p.slow.Load()))
	return s, err
}

func (p *publisher) Heartbeat(ctx context.Context, s Standing, within time.Duration) (bool, error) {
	time.Sleep(time.Duration(p.slowBeat.Load()))
	ok, err := p.Bus.Heartbeat(ctx, s, within)
	if ok {
		p.beats.Add(1)
	}
	return ok, err
}

// A heartbeat says that every row committed more than 250 ms ago is out. What
// speaks against that silences it, and only as long as it does.
func TestHeartbeatIsAStatement(t *testing.T) {
	cases := []struct {
		name       string
		spoil, end func(box *outbox, out *publisher)
	}{
		{"rows can't be published",
			func(box *outbox, out *publisher) { out.fail.Store(true); box.add(message(11)) },
			func(_ *outbox, out *publisher) { out.fail.Store(false) }},
		{"another relay has locked a row and hangs",
			func(box *outbox, _ *publisher) {
				box.mu.Lock()
				box.locked = map[int64]bool{1: true}
				box.mu.Unlock()
				box.add(message(11))
			},
			func(box *outbox, _ *publisher) { box.mu.Lock(); box.locked = nil; box.mu.Unlock() }},
		{"the database is away",
			func(box *outbox, _ *publisher) { box.mu.Lock(); box.down = true; box.mu.Unlock() },
			func(box *outbox, _ *publisher) { box.mu.Lock(); box.down = false; box.mu.Unlock() }},
		{"the check takes too long",
			func(_ *outbox, out *publisher) { out.slow.Store(int64(160 * time.Millisecond)) },
			func(_ *outbox, out *publisher) { out.slow.Store(0) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				box, out := newOutbox(), &publisher{Bus: NewBus()}
				run(t, NewRelay(box, out, nil))
				time.Sleep(2 * time.Second)
				if n := out.beats.Load(); n < 5 {
					t.Fatalf("%d heartbeats in good times", n)
				}
				c.spoil(box, out)
				time.Sleep(300 * time.Millisecond)
				before := out.beats.Load()
				time.Sleep(5 * time.Second)
				if n := out.beats.Load() - before; n != 0 {
					t.Errorf("%d heartbeats that were not true", n)
				}
				c.end(box, out)
				time.Sleep(2 * time.Second)
				if out.beats.Load() == before {
					t.Error("no heartbeat after it")
				}
			})
		})
	}
}

func run(t *testing.T, relay *Relay) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = relay.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// The look at the unsent rows comes up to 150 ms before the heartbeat: a row that
// is 250 ms old by then must be seen.
func TestHeartbeatLooksFarEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, out := newOutbox(), &publisher{Bus: NewBus()}
		relay := NewRelay(box, out, nil)
		if err := relay.beat(t.Context()); err != nil { // the replay of a start
			t.Fatal(err)
		}
		box.locked = map[int64]bool{1: true}
		box.add(message(11))
		time.Sleep(120 * time.Millisecond)
		out.slowBeat.Store(int64(140 * time.Millisecond))
		if err := relay.beat(t.Context()); err != nil || out.beats.Load() != 0 {
			t.Errorf("a heartbeat 260 ms after an unsent row, %v", err)
		}
	})
}

// Guard: the table's last row is read before the server's sentinel. Another relay
// that sends in between is no loss, and ten minutes of rows stay where they are.
func TestAnotherRelayIsNoLoss(t *testing.T) {
	box, out := newOutbox(), &publisher{Bus: NewBus()}
	one, two := NewRelay(box, out, nil), NewRelay(box, out, nil)
	if err := one.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range int64(5) {
		revision := 20 + i
		box.last = func() {
			box.last = nil
			box.add(message(revision))
			if err := two.Drain(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if err := one.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if one.Replayed.Load() != 0 || out.beats.Load() != 5 {
		t.Errorf("%d replayed, %d heartbeats", one.Replayed.Load(), out.beats.Load())
	}
}

// Several relays on one outbox send each row once, between them.
func TestSeveralRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, bus := newOutbox(), NewBus()
		relays := []*Relay{NewRelay(box, bus, nil), NewRelay(box, bus, nil), NewRelay(box, bus, nil)}
		for _, r := range relays {
			run(t, r)
		}
		for i := range int64(100) {
			box.add(message(100 + i))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		sent := int64(0)
		for _, r := range relays {
			sent += r.Sent.Load()
			if r.Beats.Load() == 0 {
				t.Error("a relay without heartbeats")
			}
		}
		if sent != 100 {
			t.Errorf("%d rows were sent", sent)
		}
	})
}

// What a server lost is sent again before the next heartbeat: the rows of the
// last ten minutes, in order, and no older ones.
func TestReplay(t *testing.T) {
	cases := []struct {
		name string
		lose func(b *Bus)
		want bool
	}{
		{"nothing lost", func(*Bus) {}, false},
		{"the sentinel is gone", func(b *Bus) { b.sentinel = -1 }, true},
		{"the sentinel went back", func(b *Bus) { b.sentinel = 2 }, true},
		{"another server", func(b *Bus) { b.name = "restarted" }, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				box, out := newOutbox(), &publisher{Bus: NewBus()}
				relay := NewRelay(box, out, nil)
				step := func() {
					t.Helper()
					if err := relay.Drain(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := relay.beat(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				box.add(message(11))
				step()
				time.Sleep(11 * time.Minute)
				for i := range int64(relayBatch + 20) {
					box.add(message(12 + i))
				}
				step()
				out.published = nil
				c.lose(out.Bus)
				beats := out.beats.Load()
				step()
				if (len(out.published) == relayBatch+20) != c.want || (out.beats.Load() == beats) != c.want {
					t.Errorf("%d rows sent again, %d heartbeats with it", len(out.published), out.beats.Load()-beats)
				}
				for i, id := range out.published {
					if id != int64(2+i) {
						t.Fatalf("row %d came in place %d", id, i)
					}
				}
				step()
				if out.beats.Load() == beats {
					t.Error("no heartbeat after the replay")
				}
			})
		})
	}
}

// A message without gap reaches a sidecar by the commit itself, not by the
// relay's next turn.
func TestCommitKicksTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, out := newOutbox(), &publisher{Bus: NewBus()}
		relay := NewRelay(box, out, nil)
		run(t, relay)
		time.Sleep(time.Second + 10*time.Millisecond) // between two turns
		box.add(message(11))
		synctest.Wait()
		if relay.Sent.Load() != 1 {
			t.Error("the row waits for a turn")
		}
	})
}
