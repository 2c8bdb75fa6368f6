package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// drain relays everything and returns it.
func (w *world) drain() []connector.Message {
	w.Helper()
	var out []connector.Message
	for {
		n, err := w.store.Relay(w.ctx(), 1000, func(_ context.Context, ms []connector.Message) error {
			out = append(out, ms...)
			return nil
		})
		w.ok(err, "relay")
		if n == 0 {
			return out
		}
	}
}

func outboxContent(w *world) {
	created := w.drain()
	if len(created) == 0 {
		w.Fatal("the creation of two tenants left no message")
	}
	for _, id := range []tenant.ID{w.a, w.b} {
		found := false
		for _, m := range created {
			found = found || m.Tenant == id && m.Status && m.Organization.IsZero()
		}
		if !found {
			w.Errorf("no message says that tenant %s exists now: %+v", id, created)
		}
	}
	last := created[len(created)-1].ID
	wide, own := live(wholeTenant, providers.Storage), live(w.hq, providers.Email)
	org := connector.Organization{ID: w.lab, Name: "lab"}
	fresh := connector.Organization{ID: unknownOrg, Name: "new", Active: true}
	for _, step := range []struct {
		name string
		fn   func(ctx context.Context, tx connector.TenantTx) error
		want []connector.Message
	}{
		{"insert tenant-wide", func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, wide) },
			[]connector.Message{{All: true, Category: providers.Storage, Connector: wide.ID}}},
		{"insert an organization's own", func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, own) },
			[]connector.Message{{Organization: w.hq, Category: providers.Email, Connector: own.ID}}},
		{"update tenant-wide", func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Update(ctx, wide.ID, 1, func(c *connector.Connector) error { c.Name = "x"; return nil })
		}, []connector.Message{{All: true, Category: providers.Storage, Connector: wide.ID}}},
		{"delete an organization's own", func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Update(ctx, own.ID, 1, func(c *connector.Connector) error { c.DeletedAt = moment; return nil })
		}, []connector.Message{{Organization: w.hq, Category: providers.Email, Connector: own.ID}}},
		{"clear a default", func(ctx context.Context, tx connector.TenantTx) error {
			_, err := tx.ClearDefault(ctx, wholeTenant, providers.Storage)
			return err
		}, []connector.Message{{All: true, Category: providers.Storage, Connector: wide.ID}}},
		{"deactivate an organization", func(ctx context.Context, tx connector.TenantTx) error { return tx.PutOrganization(ctx, org) },
			[]connector.Message{{Organization: w.lab, Status: true}}},
		{"create an organization", func(ctx context.Context, tx connector.TenantTx) error { return tx.PutOrganization(ctx, fresh) },
			[]connector.Message{{Organization: unknownOrg, Status: true}}},
		{"suspend the tenant", func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
		}, []connector.Message{{Status: true}}},
		{"two writes", func(ctx context.Context, tx connector.TenantTx) error {
			if err := tx.Insert(ctx, draft(w.hq, own.Category)); err != nil {
				return err
			}
			return tx.Update(ctx, wide.ID, 3, func(c *connector.Connector) error { c.Name = "y"; return nil })
		}, []connector.Message{{Organization: w.hq, Category: providers.Email}, {All: true, Category: providers.Storage, Connector: wide.ID}}},
	} {
		rev := w.change(w.a, step.fn)
		got := w.drain()
		if len(got) != len(step.want) {
			w.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
			continue
		}
		for i, want := range step.want {
			m := got[i]
			if m.ID <= last || m.At.Location() != time.UTC || time.Since(m.At).Abs() > time.Minute {
				w.Errorf("%s: id %d after %d, at %v", step.name, m.ID, last, m.At)
			}
			last = m.ID
			want.ID, want.At, want.Tenant, want.Revision = m.ID, m.At, w.a, rev
			if want.Connector.IsZero() && want.Category != "" {
				want.Connector = m.Connector
			}
			// A tenant's own status concerns every organization, whatever All says.
			if want.Status && want.Organization.IsZero() {
				want.All = m.All
			}
			if m != want {
				w.Errorf("%s: got %+v, want %+v", step.name, m, want)
			}
		}
	}
}

// messages commits n changes of one message each.
func (w *world) messages(n int) {
	w.Helper()
	for range n {
		w.insert(w.a, draft(w.hq, providers.Storage))
	}
}

func (w *world) unsent(age time.Duration) bool {
	w.Helper()
	u, err := w.store.Unsent(w.ctx(), age)
	w.ok(err, "unsent")
	return u
}

func (w *world) lastSent() int64 {
	w.Helper()
	id, err := w.store.LastSent(w.ctx())
	w.ok(err, "last sent")
	return id
}

func relay(w *world) {
	if !w.unsent(0) || w.lastSent() != 0 {
		w.Error("what was never sent counts as sent")
	}
	first := w.drain()
	if w.unsent(0) || w.lastSent() != first[len(first)-1].ID {
		w.Errorf("all sent: unsent %v, last %d", w.unsent(0), w.lastSent())
	}
	w.messages(5)
	if w.unsent(time.Hour) {
		w.Error("a new message counts as an hour old")
	}
	var tried []connector.Message
	n, err := w.store.Relay(w.ctx(), 1000, func(_ context.Context, ms []connector.Message) error {
		tried = ms
		return errBoom
	})
	if n != 0 || !errors.Is(err, errBoom) || len(tried) != 5 || !w.unsent(0) || w.lastSent() != first[len(first)-1].ID {
		w.Errorf("a failed send: %d, %v, tried %d, unsent %v", n, err, len(tried), w.unsent(0))
	}
	// In batches, oldest first, each once.
	var got []connector.Message
	for _, want := range []int{2, 2, 1, 0} {
		n, err := w.store.Relay(w.ctx(), 2, func(_ context.Context, ms []connector.Message) error {
			got = append(got, ms...)
			return nil
		})
		w.ok(err, "relay")
		if n != want {
			w.Errorf("sent %d, want %d", n, want)
		}
	}
	if len(got) != 5 {
		w.Fatalf("got %d messages", len(got))
	}
	for i := range got {
		if got[i] != tried[i] || i > 0 && got[i].ID <= got[i-1].ID {
			w.Errorf("message %d is %+v, was %+v", i, got[i], tried[i])
		}
	}
	if w.unsent(0) || w.lastSent() != got[4].ID {
		w.Error("the last batch is not marked")
	}
	// With nothing to do, send is not called.
	n, err = w.store.Relay(w.ctx(), 10, func(context.Context, []connector.Message) error { return errBoom })
	if n != 0 || err != nil {
		w.Errorf("an empty relay: %d, %v", n, err)
	}
}

// relayConcurrent holds one relay inside of send: another one passes the
// locked rows by without waiting, and Unsent still sees them.
func relayConcurrent(w *world) {
	w.drain()
	w.messages(4)
	inside, release := make(chan []connector.Message, 1), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		n, err := w.store.Relay(w.ctx(), 2, func(_ context.Context, ms []connector.Message) error {
			inside <- ms
			<-release
			return nil
		})
		if n != 2 || err != nil {
			w.Errorf("the slow relay: %d, %v", n, err)
		}
	})
	defer wg.Wait()
	defer close(release)
	held := <-inside
	var got []connector.Message
	for range 2 {
		n, err := w.store.Relay(w.ctx(), 1, func(_ context.Context, ms []connector.Message) error {
			got = append(got, ms...)
			return nil
		})
		if n != 1 || err != nil {
			w.Fatalf("the second relay: %d, %v", n, err)
		}
	}
	if len(held) != 2 || len(got) != 2 || got[0].ID <= held[1].ID {
		w.Errorf("held %+v, got %+v", held, got)
	}
	if n, err := w.store.Relay(w.ctx(), 10, func(context.Context, []connector.Message) error { return errBoom }); n != 0 || err != nil {
		w.Errorf("a third relay: %d, %v", n, err)
	}
	if !w.unsent(0) {
		w.Error("rows that a relay holds are not seen")
	}
	if w.lastSent() != got[1].ID {
		w.Errorf("last sent %d, want %d", w.lastSent(), got[1].ID)
	}
}

// relayAll lets relays race writers: no message twice, none lost.
func relayAll(w *world) {
	w.drain()
	const writers, each, relays = 4, 10, 3
	seen := map[int64]int{}
	var mu sync.Mutex
	var writing, relaying sync.WaitGroup
	done := make(chan struct{})
	for range writers {
		writing.Go(func() {
			for range each {
				if _, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
					return tx.Insert(ctx, draft(w.hq, providers.Storage))
				}); err != nil {
					w.Errorf("insert: %v", err)
				}
			}
		})
	}
	for i := range relays {
		relaying.Go(func() {
			for last := false; ; {
				n, err := w.store.Relay(w.ctx(), 3, func(_ context.Context, ms []connector.Message) error {
					if i == 0 && len(ms)%2 == 1 {
						return errBoom // and leave them to the others
					}
					mu.Lock()
					defer mu.Unlock()
					for _, m := range ms {
						seen[m.ID]++
					}
					return nil
				})
				if err != nil && !errors.Is(err, errBoom) {
					w.Errorf("relay: %v", err)
					return
				}
				if last && n == 0 {
					return
				}
				select {
				case <-done:
					last = true
				default:
				}
			}
		})
	}
	writing.Wait()
	close(done)
	relaying.Wait()
	for _, m := range w.drain() {
		seen[m.ID]++
	}
	if len(seen) != writers*each {
		w.Errorf("%d messages, want %d", len(seen), writers*each)
	}
	for id, n := range seen {
		if n != 1 {
			w.Errorf("message %d was sent %d times", id, n)
		}
	}
}

func sent(w *world) {
	w.drain()
	w.messages(3)
	mark := w.lastSent()
	read := func(age time.Duration, after int64, n int) []connector.Message {
		w.Helper()
		ms, err := w.store.Sent(w.ctx(), age, after, n)
		w.ok(err, "sent")
		return ms
	}
	if got := read(time.Hour, mark, 100); len(got) != 0 {
		w.Errorf("unsent messages are replayed: %+v", got)
	}
	want := w.drain()
	got := read(time.Hour, mark, 100)
	if len(got) != 3 {
		w.Fatalf("replayed %d, want 3", len(got))
	}
	for i := range got {
		if got[i] != want[i] {
			w.Errorf("replayed %+v, sent %+v", got[i], want[i])
		}
	}
	if got := read(time.Hour, want[0].ID, 1); len(got) != 1 || got[0] != want[1] {
		w.Errorf("after the first, at most one: %+v", got)
	}
	if got := read(time.Hour, want[2].ID, 100); len(got) != 0 {
		w.Errorf("after the last: %+v", got)
	}
	w.until("messages leave the window", func() bool { return len(read(time.Millisecond, 0, 100)) == 0 })
	if all := read(time.Hour, 0, 1000); len(all) < 5 || all[0].ID >= all[1].ID {
		w.Errorf("from the beginning: %+v", all)
	}
}

func sweepOutbox(w *world) {
	w.drain()
	w.messages(2)
	sweep := func(age time.Duration) int64 {
		w.Helper()
		n, err := w.store.SweepOutbox(w.ctx(), age)
		w.ok(err, "sweep")
		return n
	}
	if n := sweep(time.Hour); n != 0 {
		w.Errorf("swept %d young rows", n)
	}
	before, err := w.store.Sent(w.ctx(), time.Hour, 0, 1000)
	w.ok(err, "sent")
	var swept int64
	w.until("every sent row is swept", func() bool { swept += sweep(0); return swept >= int64(len(before)) })
	if swept != int64(len(before)) || w.lastSent() != 0 {
		w.Errorf("swept %d of %d, last sent %d", swept, len(before), w.lastSent())
	}
	if !w.unsent(0) {
		w.Error("unsent rows were swept")
	}
	got := w.drain()
	if len(got) != 2 || got[0].ID <= before[len(before)-1].ID {
		w.Errorf("after the sweep %+v", got)
	}
	// Ids are never used again, even when the table was empty.
	w.until("the rest is swept", func() bool { sweep(0); return w.lastSent() == 0 })
	w.messages(1)
	if next := w.drain(); len(next) != 1 || next[0].ID <= got[1].ID {
		w.Errorf("id %+v after %d", next, got[1].ID)
	}
}

func committed(w *world) {
	ch := w.store.Committed()
	take := func() bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	w.until("a signal of the set-up", take)
	for take() {
	}
	_, err := w.try(w.a, func(context.Context, connector.TenantTx) error { return connector.ErrNoChange })
	w.ok(err, "no change")
	_, _ = w.try(w.a, func(context.Context, connector.TenantTx) error { return errBoom })
	if take() {
		w.Error("a signal without a commit")
	}
	w.messages(5)
	w.until("a signal", take)
	if take() {
		w.Error("signals do not coalesce")
	}
	// Whoever hears the signal sees the row.
	w.drain()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ch:
			if !w.unsent(0) {
				w.Error("a signal before the commit")
			}
		case <-time.After(patience):
			w.Error("no signal")
		}
	})
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Insert(ctx, draft(w.hq, providers.Storage))
	})
	w.ok(err, "insert")
	wg.Wait()
}

func ping(w *world) {
	at, err := w.store.Ping(w.ctx())
	w.ok(err, "ping")
	if at.Location() != time.UTC || time.Since(at).Abs() > time.Minute {
		w.Errorf("the database's clock says %v", at)
	}
}

func closed(w *world) {
	w.ok(w.store.Close(), "close")
	for name, call := range storeCalls(w, connector.NewID()) {
		if err := call(w.ctx()); err == nil {
			w.Errorf("%s works on a closed store", name)
		} else if code := fault.CodeOf(err); code != fault.Unavailable {
			w.Errorf("%s on a closed store: %v (code %s), want %s", name, err, code, fault.Unavailable)
		}
	}
}
