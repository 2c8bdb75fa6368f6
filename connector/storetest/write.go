package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

func itoa(i int) string { return strconv.Itoa(i) }

func versions(w *world) {
	c := w.insert(w.a, full(w))
	rename := func(c *connector.Connector) { c.Name += "!" }
	for _, v := range []int64{0, 2, -1} {
		w.code(w.tryUpdate(w.a, c.ID, v, rename), fault.StaleVersion, "version "+itoa(int(v)))
	}
	w.identical("refused", w.stored(w.a, c.ID), c)
	for i := range 3 {
		c = w.update(w.a, c, rename)
		w.sane(c, int64(i)+2)
	}
	w.code(w.tryUpdate(w.a, c.ID, c.Version-1, rename), fault.StaleVersion, "the version before")
	w.code(w.tryUpdate(w.a, connector.NewID(), 1, rename), fault.NotFound, "an unknown connector")

	// Of many writers with one version, one wins.
	const writers = 10
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() { errs[i] = w.tryUpdate(w.a, c.ID, c.Version, rename) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch fault.CodeOf(err) {
		case "":
			won++
		case fault.StaleVersion:
		default:
			w.Errorf("a losing writer: %v", err)
		}
	}
	if won != 1 || w.stored(w.a, c.ID).Version != c.Version+1 {
		w.Errorf("%d writers won, version %d after %d", won, w.stored(w.a, c.ID).Version, c.Version)
	}
}

func immutable(w *world) {
	c := w.insert(w.a, full(w))
	for name, fn := range map[string]func(c *connector.Connector){
		"id":                 func(c *connector.Connector) { c.ID = connector.NewID() },
		"kind":               func(c *connector.Connector) { c.Kind = "google_drive" },
		"category":           func(c *connector.Connector) { c.Category = providers.Email },
		"organization":       func(c *connector.Connector) { c.Organization = w.lab },
		"organization unset": func(c *connector.Connector) { c.Organization = wholeTenant },
	} {
		w.code(w.tryUpdate(w.a, c.ID, c.Version, fn), fault.InvalidArgument, name)
		w.identical(name, w.stored(w.a, c.ID), c)
	}
}

func defaultImpliesActive(w *world) {
	c := live(w.hq, providers.Storage)
	c.Active = false
	_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, c) })
	w.code(err, fault.InvalidArgument, "insert an inactive default")
	c.Active = true
	stored := w.insert(w.a, c)
	w.code(w.tryUpdate(w.a, c.ID, 1, func(c *connector.Connector) { c.Active = false }), fault.InvalidArgument, "deactivate a default")
	w.identical("refused", w.stored(w.a, c.ID), stored)
}

func defaultUnique(w *world) {
	for _, org := range []tenant.OrganizationID{w.hq, wholeTenant} {
		first := w.insert(w.a, live(org, providers.Storage))
		insert := func(t tenant.ID, c connector.Connector) error {
			_, err := w.try(t, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, c) })
			return err
		}
		w.code(insert(w.a, live(org, providers.Storage)), fault.Conflict, "insert a second default of "+org.String())
		second := w.insert(w.a, draft(org, providers.Storage))
		makeDefault := func(c *connector.Connector) { c.Active, c.Default = true, true }
		w.code(w.tryUpdate(w.a, second.ID, 1, makeDefault), fault.Conflict, "make a second default")
		// Other slots are free.
		w.ok(insert(w.a, live(org, providers.Email)), "another category")
		w.ok(insert(w.b, live(org, providers.Storage)), "another tenant")
		// A deleted default holds no slot, and cannot come back into a taken one.
		first = w.update(w.a, first, func(c *connector.Connector) { c.DeletedAt = moment })
		w.update(w.a, second, makeDefault)
		w.code(w.tryUpdate(w.a, first.ID, first.Version, func(c *connector.Connector) { c.DeletedAt = time.Time{} }), fault.Conflict, "restore a second default")
	}
	// The organization's own and the tenant-wide one are two slots.
	w.insert(w.a, live(w.lab, providers.Storage))
}

// defaultRace has no ClearDefault: nothing but the database can refuse.
func defaultRace(w *world) {
	for _, org := range []tenant.OrganizationID{w.hq, wholeTenant} {
		const writers = 50
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				_, errs[i] = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
					return tx.Insert(ctx, live(org, providers.Storage))
				})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch fault.CodeOf(err) {
			case "":
				won++
			case fault.Conflict:
			default:
				w.Errorf("a losing writer: %v", err)
			}
		}
		if won != 1 {
			w.Errorf("%d defaults for organization %q", won, org)
		}
	}
}

// defaultSwitches is 50 concurrent switches, half of them of the whole tenant,
// watched by a reader that must see exactly one default at every moment.
func defaultSwitches(w *world) {
	orgs := []tenant.OrganizationID{w.hq, wholeTenant}
	var ids [][]connector.ID
	for _, org := range orgs {
		first := live(org, providers.Storage)
		w.insert(w.a, first)
		list := []connector.ID{first.ID}
		for range 4 {
			c := draft(org, providers.Storage)
			w.insert(w.a, c)
			list = append(list, c.ID)
		}
		ids = append(ids, list)
	}
	done := make(chan struct{})
	var reader sync.WaitGroup
	readings := 0
	reader.Go(func() {
		for {
			all, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{})
			if err != nil {
				w.Errorf("list: %v", err)
				return
			}
			n := map[tenant.OrganizationID]int{}
			for _, c := range all {
				if c.Default {
					n[c.Organization]++
				}
			}
			own := w.answer(w.a, w.hq, providers.Storage)
			if n[w.hq] != 1 || n[wholeTenant] != 1 || own.Connector == nil || own.Inherited {
				w.Errorf("%d defaults of the organization, %d of the tenant, answer %v", n[w.hq], n[wholeTenant], own.Connector)
				return
			}
			readings++
			select {
			case <-done:
				return
			default:
			}
		}
	})
	var writers sync.WaitGroup
	for i := range 50 {
		writers.Go(func() {
			org, list := orgs[i%2], ids[i%2]
			for end := time.Now().Add(patience); ; {
				err := switchTo(w, org, list[i/2%len(list)])
				switch {
				case err == nil:
					return
				case fault.CodeOf(err) != fault.StaleVersion && fault.CodeOf(err) != fault.Conflict, time.Now().After(end):
					w.Errorf("switch %d: %v", i, err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	reader.Wait()
	if readings == 0 {
		w.Error("nothing was read")
	}
}

// switchTo makes a connector the default the way a service does it.
func switchTo(w *world, org tenant.OrganizationID, id connector.ID) error {
	s, err := w.store.Tenant(w.a).Connector(w.ctx(), org, id)
	if err != nil {
		return err
	}
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		version := s.Connector.Version
		cleared, err := tx.ClearDefault(ctx, org, providers.Storage)
		if err != nil {
			return err
		}
		if cleared == id {
			version++
		}
		return tx.Update(ctx, id, version, func(c *connector.Connector) error { c.Active, c.Default = true, true; return nil })
	})
	return err
}

func clearDefault(w *world) {
	old := w.insert(w.a, live(w.hq, providers.Storage))
	next := w.insert(w.a, draft(w.hq, providers.Storage))
	bystanders := []connector.Connector{
		w.insert(w.a, live(wholeTenant, providers.Storage)), w.insert(w.a, live(w.lab, providers.Storage)), w.insert(w.a, live(w.hq, providers.Email)),
	}
	other := w.insert(w.b, live(w.hq, providers.Storage))
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		cleared, err := tx.ClearDefault(ctx, w.hq, providers.Storage)
		if err != nil || cleared != old.ID {
			return errors.Join(err, errors.New("cleared "+cleared.String()))
		}
		return tx.Update(ctx, next.ID, next.Version, func(c *connector.Connector) error { c.Active, c.Default = true, true; return nil })
	})
	gotOld, gotNext := w.stored(w.a, old.ID), w.stored(w.a, next.ID)
	if gotOld.Default || !gotOld.Active || gotOld.Version != 2 || !gotNext.Default || gotNext.Version != 2 {
		w.Errorf("after the swap %+v and %+v", gotOld, gotNext)
	}
	for _, c := range bystanders {
		w.identical("bystander", w.stored(w.a, c.ID), c)
	}
	w.identical("other tenant", w.stored(w.b, other.ID), other)
	// A tenant-wide slot is cleared as its own, and an empty one is no error.
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		for _, want := range []connector.ID{bystanders[0].ID, {}} {
			if cleared, err := tx.ClearDefault(ctx, wholeTenant, providers.Storage); err != nil || cleared != want {
				return errors.Join(err, errors.New("cleared "+cleared.String()))
			}
		}
		return nil
	})
	if !w.stored(w.a, next.ID).Default || w.stored(w.a, bystanders[0].ID).Default {
		w.Error("the wrong slot was cleared")
	}
}

func externalID(w *world) {
	named := func(id string) connector.Connector {
		c := draft(w.hq, providers.Storage)
		c.ExternalID = id
		return c
	}
	insert := func(t tenant.ID, c connector.Connector) error {
		_, err := w.try(t, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, c) })
		return err
	}
	first := w.insert(w.a, named("one"))
	w.code(insert(w.a, named("one")), fault.Conflict, "a second living one")
	w.ok(insert(w.a, named("ONE")), "kept as written: another spelling is another id")
	w.ok(insert(w.b, named("one")), "another tenant")
	w.ok(insert(w.a, named("")), "none")
	w.ok(insert(w.a, named("")), "none again")
	first = w.update(w.a, first, func(c *connector.Connector) { c.DeletedAt = moment })
	second := named("one")
	w.ok(insert(w.a, second), "reuse after delete")
	restore := func(c *connector.Connector) { c.DeletedAt = time.Time{} }
	w.code(w.tryUpdate(w.a, first.ID, first.Version, restore), fault.Conflict, "restore into a taken id")
	w.update(w.a, w.stored(w.a, second.ID), func(c *connector.Connector) { c.ExternalID = "two" })
	w.update(w.a, first, restore)
	taken := w.insert(w.a, named(""))
	w.code(insert(w.a, taken), fault.Conflict, "the same connector id twice")
}

func deleteAndRestore(w *world) {
	c := w.insert(w.a, full(w))
	gone := w.update(w.a, c, func(c *connector.Connector) { c.DeletedAt = moment })
	if !gone.DeletedAt.Equal(moment) || gone.DeletedAt.Location() != time.UTC || gone.Version != 2 || gone.Pin != c.Pin || len(gone.Params) != len(c.Params) {
		w.Errorf("deleted: %+v", gone)
	}
	if living, _ := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{}); len(living) != 0 {
		w.Errorf("a deleted connector is listed: %v", living)
	}
	w.answers("deleted", w.answer(w.a, w.hq, providers.Storage), connector.ID{}, false)
	back := w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = time.Time{} })
	w.same("restored", back, c)
	w.answers("restored", w.answer(w.a, w.hq, providers.Storage), c.ID, false)
}

func lockConnector(w *world) {
	c := w.insert(w.a, full(w))
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.LockConnector(ctx, c.ID) })
	w.identical("locking changes nothing", w.stored(w.a, c.ID), c)
	_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.LockConnector(ctx, connector.NewID())
	})
	w.code(err, fault.NotFound, "lock an unknown connector")
	gone := w.update(w.a, c, func(c *connector.Connector) { c.DeletedAt = moment })
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.LockConnector(ctx, gone.ID) })
	w.ok(err, "lock a deleted connector, as the sweeper does")

	// An update of the locked connector commits after the lock's transaction.
	var order []string
	var mu sync.Mutex
	note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
	locked, started := make(chan struct{}), make(chan struct{})
	var once, onceStarted sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
			if err := tx.LockConnector(ctx, c.ID); err != nil {
				return err
			}
			once.Do(func() { close(locked) })
			<-started
			note("locker")
			return nil
		})
		if err != nil {
			w.Errorf("lock: %v", err)
			once.Do(func() { close(locked) })
		}
	})
	wg.Go(func() {
		<-locked
		onceStarted.Do(func() { close(started) })
		if err := w.tryUpdate(w.a, c.ID, gone.Version, func(c *connector.Connector) { note("writer"); c.Name = "after" }); err != nil {
			w.Errorf("update: %v", err)
		}
	})
	wg.Wait()
	if len(order) < 2 || order[0] != "locker" {
		w.Errorf("order %v", order)
	}
}

func recordTest(w *world) {
	c := w.insert(w.a, full(w))
	w.drain()
	rev := w.revision(w.a)
	report := []byte(`{"ok": false, "message": "refused", "version": 1}`)
	w.ok(w.store.RecordTest(w.ctx(), w.a, c.ID, 1, connector.StateError, report), "record a test")
	got, want := w.stored(w.a, c.ID), c
	want.State, want.LastTest, want.UpdatedAt = connector.StateError, report, got.UpdatedAt
	w.identical("recorded", got, want)
	if now := w.revision(w.a); now != rev {
		w.Errorf("the revision moved from %d to %d", rev, now)
	}
	if ms := w.drain(); len(ms) != 0 {
		w.Errorf("a test leaves messages: %v", ms)
	}
	h, err := w.store.Tenant(w.a).History(w.ctx(), c.ID, 0, 0)
	w.ok(err, "history")
	if len(h) != 1 {
		w.Errorf("%d revisions after a test, want 1", len(h))
	}
	// What decides an answer is not a test's: its revision would have to move.
	w.code(w.store.RecordTest(w.ctx(), w.a, c.ID, 1, connector.StateNeedsReauthorization, report), fault.InvalidArgument, "a test that asks for authorization")
	waiting := w.update(w.a, c, func(c *connector.Connector) { c.State = connector.StateNeedsReauthorization })
	w.ok(w.store.RecordTest(w.ctx(), w.a, c.ID, waiting.Version, connector.StateConnected, report), "a test of what needs authorization")
	if got := w.stored(w.a, c.ID); got.State != connector.StateNeedsReauthorization || len(got.LastTest) == 0 {
		w.Errorf("a test set state %q, report %s", got.State, got.LastTest)
	}
	c = w.update(w.a, waiting, func(c *connector.Connector) { c.State = connector.StateError })
	edited := w.update(w.a, c, func(c *connector.Connector) { c.Name = "Edited" })
	w.code(w.store.RecordTest(w.ctx(), w.a, c.ID, 1, connector.StateConnected, report), fault.StaleVersion, "a test of what was edited meanwhile")
	w.identical("refused", w.stored(w.a, c.ID), edited)
	w.code(w.store.RecordTest(w.ctx(), w.a, connector.NewID(), 1, connector.StateConnected, report), fault.NotFound, "an unknown connector")
	w.code(w.store.RecordTest(w.ctx(), w.b, c.ID, edited.Version, connector.StateConnected, report), fault.NotFound, "another tenant's connector")
	w.code(w.store.RecordTest(w.ctx(), unknown, c.ID, 2, connector.StateConnected, report), fault.NotFound, "a missing tenant")
	w.identical("still", w.stored(w.a, c.ID), edited)
}

// recordTestOrder: of two tests of one version that end in the wrong order, the
// later one counts.
func recordTestOrder(w *world) {
	c := w.insert(w.a, draft(w.hq, providers.Storage))
	report := func(version int64, at string) []byte {
		return []byte(`{"ok": true, "tested_at": "` + at + `", "version": ` + itoa(int(version)) + `}`)
	}
	record := func(version int64, state connector.State, report []byte) error {
		return w.store.RecordTest(w.ctx(), w.a, c.ID, version, state, report)
	}
	const noon, before = "2026-03-29T12:00:00Z", "2026-03-29T13:59:59.9+02:00"
	w.ok(record(1, connector.StateConnected, report(1, noon)), "the first to end")
	w.code(record(1, connector.StateError, report(1, before)), fault.StaleVersion, "one that began earlier")
	if got := w.stored(w.a, c.ID); got.State != connector.StateConnected || !strings.Contains(string(got.LastTest), noon) {
		w.Errorf("an older test set state %q, report %s", got.State, got.LastTest)
	}
	w.ok(record(1, connector.StateError, report(1, noon)), "of the same moment")
	w.ok(record(1, connector.StateConnected, report(1, "2026-03-29T12:00:01Z")), "a later one")
	// What was tested before an edit is no measure for what is tested after it.
	c = w.update(w.a, w.stored(w.a, c.ID), func(c *connector.Connector) { c.Name = "Edited" })
	w.ok(record(2, connector.StateError, report(2, before)), "the first of the next version, by another clock")
	for name, odd := range map[string]string{"no time": `{"version": 2}`, "no object": `[]`, "no time at all": `{"tested_at": "noon", "version": 2}`, "none": ``} {
		w.ok(record(2, connector.StateConnected, []byte(odd)), name)
	}
	w.ok(record(2, connector.StateError, report(2, before)), "after one that told no time")

	// Many at once: whatever the order, the latest counts.
	const tests = 20
	var wg sync.WaitGroup
	for _, i := range rand.Perm(tests) {
		wg.Go(func() {
			at := "2026-03-29T12:00:" + itoa(10+i) + "Z"
			err := record(2, connector.StateConnected, report(2, at))
			if err != nil && (fault.CodeOf(err) != fault.StaleVersion || i == tests-1) {
				w.Errorf("the test of %s: %v", at, err)
			}
		})
	}
	wg.Wait()
	if got := string(w.stored(w.a, c.ID).LastTest); !strings.Contains(got, "12:00:29Z") {
		w.Errorf("the latest is not the one that is kept: %s", got)
	}
}
