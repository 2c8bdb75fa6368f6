package storetest

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// long is a lease that no case outlives.
const long = time.Hour

func (w *world) grant(t tenant.ID, id connector.ID) connector.GrantRow {
	w.Helper()
	row, err := w.store.Grant(w.ctx(), t, id)
	w.ok(err, "grant")
	return row
}

// give is a consent: it puts the grant.
func (w *world) give(t tenant.ID, id connector.ID, version int64) {
	w.Helper()
	w.change(t, func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, id, version) })
}

// granted is a default connector of tenant a with a grant.
func (w *world) granted(version int64) connector.Connector {
	w.Helper()
	c := w.insert(w.a, live(w.hq, providers.Storage))
	w.give(w.a, c.ID, version)
	return c
}

func (w *world) acquire(id connector.ID, owner string, d time.Duration) (connector.GrantRow, bool) {
	w.Helper()
	row, acquired, err := w.store.AcquireGrant(w.ctx(), w.a, id, owner, d)
	w.ok(err, "acquire")
	return row, acquired
}

func (w *world) renew(id connector.ID, owner string, epoch int64, d time.Duration) bool {
	w.Helper()
	held, err := w.store.RenewGrant(w.ctx(), w.a, id, owner, epoch, d)
	w.ok(err, "renew")
	return held
}

func (w *world) settle(id connector.ID, version int64, status connector.GrantStatus) bool {
	w.Helper()
	recorded, err := w.store.SettleGrant(w.ctx(), w.a, id, version, status)
	w.ok(err, "settle")
	return recorded
}

// sameGrant compares rows but for the moments of their readings.
func sameGrant(a, b connector.GrantRow) bool {
	a.At, b.At = time.Time{}, time.Time{}
	return a == b
}

// grant: every reading of a slot tells what the row says.
func grant(w *world) {
	own := w.insert(w.a, live(w.hq, providers.Storage))
	other := w.insert(w.b, live(w.hq, providers.Storage))
	tells := func(status connector.GrantStatus, version int64) {
		w.Helper()
		w.each(w.a, w.hq, own.ID, func(method string, s connector.Snapshot) {
			w.Helper()
			if s.Grant != status || s.GrantVersion != version {
				w.Errorf("%s: grant %q of version %d, want %q of %d", method, s.Grant, s.GrantVersion, status, version)
			}
		})
		w.each(w.b, w.hq, other.ID, func(method string, s connector.Snapshot) {
			if s.Grant != connector.GrantNone || s.GrantVersion != 0 {
				w.Errorf("%s: the other tenant's grant is %q of version %d", method, s.Grant, s.GrantVersion)
			}
		})
	}
	tells(connector.GrantNone, 0)
	w.give(w.a, own.ID, 3)
	tells(connector.GrantActive, 3)
	w.settle(own.ID, 4, connector.GrantActive)
	tells(connector.GrantActive, 4)
	w.settle(own.ID, 4, connector.GrantNeedsReauthorization)
	tells(connector.GrantNeedsReauthorization, 4)
}

// wrote runs one write of tenant a and returns what it left: its messages, its
// entries, the connector after it.
func (w *world) wrote(id connector.ID, fn func(ctx context.Context, tx connector.TenantTx) error) ([]connector.Message, []connector.AuditEntry, connector.Connector) {
	w.Helper()
	w.drain()
	before, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err, "audit")
	rev := w.change(w.a, fn)
	ms := w.drain()
	for _, m := range ms {
		if m.Tenant != w.a || m.Revision != rev {
			w.Errorf("a message of %s at %d, want %d", m.Tenant, m.Revision, rev)
		}
	}
	after, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err, "audit")
	return ms, after[:len(after)-len(before)], w.stored(w.a, id)
}

// slot fails unless one message names the connector's slot.
func (w *world) slot(doing string, ms []connector.Message, c connector.Connector) {
	w.Helper()
	if len(ms) != 1 || ms[0].Organization != c.Organization || ms[0].All != c.Organization.IsZero() ||
		ms[0].Category != c.Category || ms[0].Connector != c.ID || ms[0].Status {
		w.Errorf("%s leaves %+v", doing, ms)
	}
}

func grantGiven(w *world) {
	for _, org := range []tenant.OrganizationID{w.hq, wholeTenant} {
		c := w.insert(w.a, live(org, providers.Storage))
		put := func(version int64) func(ctx context.Context, tx connector.TenantTx) error {
			return func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, c.ID, version) }
		}
		ms, trail, after := w.wrote(c.ID, put(2))
		w.slot("a consent", ms, c)
		if len(trail) != 1 || trail[0].Action != "connector.grant" || trail[0].Target != c.ID.String() || !slices.Equal(trail[0].Fields, []string{"grant"}) {
			w.Errorf("a consent is on record as %+v", trail)
		}
		w.identical("a consent leaves the connector alone", after, c)
		row := w.grant(w.a, c.ID)
		if row.Status != connector.GrantActive || row.Version != 2 || row.Owner != "" || !row.Until.IsZero() {
			w.Errorf("given: %+v", row)
		}
		if row.At.Location() != time.UTC || time.Since(row.At).Abs() > time.Minute {
			w.Errorf("read at %v", row.At)
		}

		// A connector that waited for it is to be tested next.
		w.settle(c.ID, 2, connector.GrantNeedsReauthorization)
		waiting := w.update(w.a, after, func(c *connector.Connector) { c.State = connector.StateNeedsReauthorization })
		held, ok := w.acquire(c.ID, "refresher", long)
		if !ok {
			w.Fatal("not acquired")
		}
		ms, trail, after = w.wrote(c.ID, put(3))
		w.slot("another consent", ms, c)
		if len(trail) != 1 || trail[0].Action != "connector.grant" || !slices.Equal(trail[0].Fields, []string{"grant", "state"}) {
			w.Errorf("another consent is on record as %+v", trail)
		}
		if after.State != connector.StateUntested || after.Version != waiting.Version+1 {
			w.Errorf("state %q, version %d after %d", after.State, after.Version, waiting.Version)
		}
		h, err := w.store.Tenant(w.a).History(w.ctx(), c.ID, 0, 0)
		w.ok(err, "history")
		w.same("history", h[0].Connector, after)
		row = w.grant(w.a, c.ID)
		if row.Status != connector.GrantActive || row.Version != 3 || row.Owner != "" || !row.Until.IsZero() || row.Epoch < held.Epoch {
			w.Errorf("given again: %+v", row)
		}
		// Whoever refreshed the one of before has lost its lease.
		if w.renew(c.ID, "refresher", held.Epoch, long) {
			w.Error("a lease outlives the consent that came after it")
		}
		// A consent that comes late does not lower the version.
		w.settle(c.ID, 9, connector.GrantNeedsReauthorization)
		w.give(w.a, c.ID, 4)
		if row := w.grant(w.a, c.ID); row.Version != 9 || row.Status != connector.GrantActive {
			w.Errorf("a late consent: %+v", row)
		}
	}
	c := w.insert(w.a, draft(w.lab, providers.Storage))
	try := func(id connector.ID, version int64) error {
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, id, version) })
		return err
	}
	w.code(try(c.ID, 0), fault.InvalidArgument, "a version of none")
	w.code(try(connector.NewID(), 1), fault.NotFound, "an unknown connector")
	w.update(w.a, c, func(c *connector.Connector) { c.DeletedAt = moment })
	w.code(try(c.ID, 1), fault.NotFound, "a deleted connector")
	if row := w.grant(w.a, c.ID); row.Status != connector.GrantNone || row.At.IsZero() || !sameGrant(row, connector.GrantRow{}) {
		w.Errorf("refused: %+v", row)
	}
}

func grantTaken(w *world) {
	c := w.granted(5)
	first, _ := w.acquire(c.ID, "refresher", long)
	remove := func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) }
	ms, trail, after := w.wrote(c.ID, remove)
	w.slot("a disconnect", ms, c)
	if len(trail) != 1 || trail[0].Action != "connector.grant_delete" || trail[0].Target != c.ID.String() || !slices.Equal(trail[0].Fields, []string{"grant"}) {
		w.Errorf("a disconnect is on record as %+v", trail)
	}
	w.identical("a disconnect leaves the connector alone", after, c)
	if row := w.grant(w.a, c.ID); !sameGrant(row, connector.GrantRow{}) {
		w.Errorf("deleted: %+v", row)
	}
	ms, trail, _ = w.wrote(c.ID, remove)
	if len(trail) != 0 || len(ms) != 1 || !ms[0].Connector.IsZero() {
		w.Errorf("a second disconnect is on record as %+v, leaves %+v", trail, ms)
	}
	_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, connector.NewID()) })
	w.code(err, fault.NotFound, "an unknown connector")

	// Given anew: any version, and an owner's lease of before is not its present one.
	w.give(w.a, c.ID, 1)
	second, acquired := w.acquire(c.ID, "refresher", long)
	if !acquired || second.Version != 1 || second.Epoch <= first.Epoch {
		w.Errorf("anew: %+v, before %+v", second, first)
	}
	if w.renew(c.ID, "refresher", first.Epoch, long) {
		w.Error("a lease of the deleted grant is renewed")
	}
	w.update(w.a, w.stored(w.a, c.ID), func(c *connector.Connector) { c.DeletedAt = moment })
	w.change(w.a, remove)
	if row := w.grant(w.a, c.ID); row.Status != connector.GrantNone {
		w.Errorf("the grant of a deleted connector stays: %+v", row)
	}
}

func lease(w *world) {
	c := w.granted(1)
	one, acquired := w.acquire(c.ID, "one", long)
	if !acquired || one.Owner != "one" || one.Version != 1 || one.Status != connector.GrantActive {
		w.Fatalf("acquired %v: %+v", acquired, one)
	}
	if left := one.Until.Sub(one.At); left <= 0 || left > long || left < long-time.Minute || one.Until.Location() != time.UTC {
		w.Errorf("a lease of an hour lasts for %v", left)
	}
	seen, acquired := w.acquire(c.ID, "two", long)
	if acquired || !sameGrant(seen, one) || !sameGrant(w.grant(w.a, c.ID), one) {
		w.Errorf("held by another: acquired %v, sees %+v", acquired, seen)
	}
	if w.renew(c.ID, "two", one.Epoch, long) || w.renew(c.ID, "one", one.Epoch-1, long) || w.renew(c.ID, "one", one.Epoch+1, long) {
		w.Error("renewed by who does not hold it")
	}
	for owner, epoch := range map[string]int64{"two": one.Epoch, "one": one.Epoch + 1} {
		w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, owner, epoch), "release")
	}
	if got := w.grant(w.a, c.ID); !sameGrant(got, one) {
		w.Errorf("released by who does not hold it: %+v", got)
	}
	if !w.renew(c.ID, "one", one.Epoch, 2*long) {
		w.Error("not renewed")
	}
	renewed := w.grant(w.a, c.ID)
	if left := renewed.Until.Sub(renewed.At); left <= long || left > 2*long || renewed.Epoch != one.Epoch || renewed.Owner != "one" {
		w.Errorf("renewed: %+v", renewed)
	}

	// The same owner again: its earlier lease is fenced off.
	again, acquired := w.acquire(c.ID, "one", long)
	if !acquired || again.Epoch <= one.Epoch {
		w.Errorf("the same owner: acquired %v, %+v", acquired, again)
	}
	if w.renew(c.ID, "one", one.Epoch, long) {
		w.Error("an earlier epoch renews")
	}
	w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, "one", one.Epoch), "release of an earlier epoch")
	if got := w.grant(w.a, c.ID); got.Owner != "one" {
		w.Error("an earlier epoch releases")
	}
	w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, "one", again.Epoch), "release")
	w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, "one", again.Epoch), "release again")
	if free := w.grant(w.a, c.ID); free.Owner != "" || !free.Until.IsZero() || free.Epoch != again.Epoch {
		w.Errorf("released: %+v", free)
	}
	if w.renew(c.ID, "one", again.Epoch, long) {
		w.Error("renewed after the release")
	}
	if two, acquired := w.acquire(c.ID, "two", long); !acquired || two.Epoch <= again.Epoch || two.Owner != "two" {
		w.Errorf("after the release: acquired %v, %+v", acquired, two)
	}
	// The status says nothing about the lease.
	w.settle(c.ID, 1, connector.GrantNeedsReauthorization)
	if row, acquired := w.acquire(c.ID, "two", long); !acquired || row.Status != connector.GrantNeedsReauthorization {
		w.Errorf("of a refused grant: acquired %v, %+v", acquired, row)
	}
	for name, err := range map[string]error{
		"no owner":        second(w.store.AcquireGrant(w.ctx(), w.a, c.ID, "", long)),
		"NUL in an owner": second(w.store.AcquireGrant(w.ctx(), w.a, c.ID, "\x00", long)),
		"no time":         second(w.store.AcquireGrant(w.ctx(), w.a, c.ID, "one", 0)),
		"no time renewed": renewing(w.store.RenewGrant(w.ctx(), w.a, c.ID, "one", 1, -time.Second)),
	} {
		w.code(err, fault.InvalidArgument, name)
	}
}

func second(_ connector.GrantRow, _ bool, err error) error { return err }

func renewing(_ bool, err error) error { return err }

// leaseExpires: a lease ends by itself, by the database's clock, and until
// somebody takes it its owner may have it back.
func leaseExpires(w *world) {
	c := w.granted(1)
	brief, acquired := w.acquire(c.ID, "one", time.Microsecond)
	if !acquired {
		w.Fatal("not acquired")
	}
	w.until("the lease is over", func() bool { row := w.grant(w.a, c.ID); return row.At.After(row.Until) })
	if row := w.grant(w.a, c.ID); row.Owner != "one" {
		w.Errorf("a lease that is over: %+v", row)
	}
	if !w.renew(c.ID, "one", brief.Epoch, long) {
		w.Error("nobody took it, and it is not renewed")
	}
	if _, acquired := w.acquire(c.ID, "two", long); acquired {
		w.Error("taken from who had renewed it")
	}
	// Over again, and taken this time.
	if !w.renew(c.ID, "one", brief.Epoch, 20*time.Millisecond) {
		w.Error("not renewed")
	}
	held := w.grant(w.a, c.ID)
	var taken connector.GrantRow
	w.until("an expired lease is taken", func() bool {
		row, acquired := w.acquire(c.ID, "two", long)
		taken = row
		return acquired
	})
	if taken.At.Before(held.Until) || taken.Owner != "two" || taken.Epoch <= brief.Epoch {
		w.Errorf("taken at %v before its end %v: %+v", taken.At, held.Until, taken)
	}
	if w.renew(c.ID, "one", brief.Epoch, long) {
		w.Error("renewed after another took it")
	}
	w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, "one", brief.Epoch), "release")
	if got := w.grant(w.a, c.ID); got.Owner != "two" {
		w.Errorf("released after another took it: %+v", got)
	}
}

// leaseRace: of 50 at once one gets it, whether the lease is free or over, and
// the others are told who.
func leaseRace(w *world) {
	c := w.granted(1)
	for _, round := range []string{"free", "over", "released"} {
		const callers = 50
		rows, won := make([]connector.GrantRow, callers), make([]bool, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				var err error
				rows[i], won[i], err = w.store.AcquireGrant(w.ctx(), w.a, c.ID, round+itoa(i), long)
				if err != nil {
					w.Errorf("%s: %v", round, err)
				}
			})
		}
		wg.Wait()
		winner := slices.Index(won, true)
		if winner < 0 || slices.Contains(won[winner+1:], true) {
			w.Fatalf("%s: won %v", round, won)
		}
		for i, row := range rows {
			if !sameGrant(row, rows[winner]) || row.Owner != round+itoa(winner) {
				w.Errorf("%s: caller %d is told %+v, the winner has %+v", round, i, row, rows[winner])
			}
		}
		epoch := rows[winner].Epoch
		if round == "free" {
			w.renew(c.ID, round+itoa(winner), epoch, time.Microsecond)
			w.until("the lease is over", func() bool { row := w.grant(w.a, c.ID); return row.At.After(row.Until) })
			continue
		}
		w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, round+itoa(winner), epoch), "release")
	}
}

// grantOfNothing: what is not there, or deleted, gives no lease.
func grantOfNothing(w *world) {
	none := w.insert(w.a, draft(w.hq, providers.Storage))
	gone := w.granted(1)
	mine, _ := w.acquire(gone.ID, "one", time.Microsecond)
	gone = w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	for name, row := range map[string]struct {
		tenant tenant.ID
		id     connector.ID
	}{
		"no row":            {w.a, none.ID},
		"no connector":      {w.a, connector.NewID()},
		"no id":             {w.a, connector.ID{}},
		"no tenant":         {unknown, gone.ID},
		"another tenant":    {w.b, gone.ID},
		"deleted connector": {w.a, gone.ID},
	} {
		for _, owner := range []string{"one", "two"} {
			got, acquired, err := w.store.AcquireGrant(w.ctx(), row.tenant, row.id, owner, long)
			if err != nil || acquired || got.At.IsZero() {
				w.Errorf("%s: acquired %v by %s, %+v: %v", name, acquired, owner, got, err)
			}
			if name != "deleted connector" && !sameGrant(got, connector.GrantRow{}) {
				w.Errorf("%s: %+v", name, got)
			}
		}
		if name == "deleted connector" {
			continue
		}
		held, err := w.store.RenewGrant(w.ctx(), row.tenant, row.id, "one", mine.Epoch, long)
		if err != nil || held {
			w.Errorf("%s: renewed %v: %v", name, held, err)
		}
		recorded, err := w.store.SettleGrant(w.ctx(), row.tenant, row.id, 9, connector.GrantNeedsReauthorization)
		if err != nil || recorded {
			w.Errorf("%s: settled %v: %v", name, recorded, err)
		}
		w.ok(w.store.ReleaseGrant(w.ctx(), row.tenant, row.id, "one", mine.Epoch), name)
	}
	if got := w.grant(w.a, gone.ID); !sameGrant(got, mine) {
		w.Errorf("the deleted connector's grant is %+v, was %+v", got, mine)
	}
	// Who is at it when the connector goes ends in order: a refresh token that was
	// exchanged is worth keeping, because a connector can be restored.
	if !w.settle(gone.ID, 2, connector.GrantActive) {
		w.Error("a refresh that ended after the deletion is not recorded")
	}
	w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = time.Time{} })
	if row, acquired := w.acquire(gone.ID, "two", long); !acquired || row.Version != 2 {
		w.Errorf("restored: acquired %v, %+v", acquired, row)
	}
}

// said is one finding about a grant's version.
type said struct {
	version int64
	status  connector.GrantStatus
}

const (
	alive   = connector.GrantActive
	refused = connector.GrantNeedsReauthorization
)

func grantSettled(w *world) {
	for _, row := range []struct {
		name     string
		given    int64
		said     []said
		recorded []bool
		want     said
	}{
		{"a refresh", 1, []said{{2, alive}, {3, alive}}, []bool{true, true}, said{3, alive}},
		{"refused", 1, []said{{1, refused}}, []bool{true}, said{1, refused}},
		{"refused twice", 1, []said{{1, refused}, {1, refused}}, []bool{true, true}, said{1, refused}},
		// The holder loses its lease while the issuer answers, and its successor is
		// refused with the old token; in both orders the new one counts.
		{"the successor first", 1, []said{{1, refused}, {2, alive}}, []bool{true, true}, said{2, alive}},
		{"the holder first", 1, []said{{2, alive}, {1, refused}}, []bool{true, false}, said{2, alive}},
		{"nothing new", 3, []said{{3, alive}, {2, alive}}, []bool{false, false}, said{3, alive}},
		{"a version that was refused stays so", 3, []said{{3, refused}, {3, alive}, {2, alive}}, []bool{true, false, false}, said{3, refused}},
		{"refused before anybody told of it", 1, []said{{4, refused}, {3, alive}, {5, alive}}, []bool{true, false, true}, said{5, alive}},
		{"an old refusal", 5, []said{{4, refused}, {1, refused}}, []bool{false, false}, said{5, alive}},
	} {
		c := w.insert(w.a, draft(w.hq, providers.Storage))
		w.give(w.a, c.ID, row.given)
		held, _ := w.acquire(c.ID, "one", long)
		rev := w.revision(w.a)
		for i, s := range row.said {
			if got := w.settle(c.ID, s.version, s.status); got != row.recorded[i] {
				w.Errorf("%s: finding %d: recorded %v", row.name, i, got)
			}
		}
		got := w.grant(w.a, c.ID)
		if got.Version != row.want.version || got.Status != row.want.status {
			w.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
		if got.Owner != held.Owner || got.Epoch != held.Epoch || !got.Until.Equal(held.Until) {
			w.Errorf("%s: the lease is %+v, was %+v", row.name, got, held)
		}
		if now := w.revision(w.a); now != rev {
			w.Errorf("%s: the revision moved", row.name)
		}
		w.identical(row.name, w.stored(w.a, c.ID), c)
	}
	c := w.granted(1)
	for name, s := range map[string]said{"a version of none": {0, alive}, "no status": {1, connector.GrantNone}, "an unknown status": {1, "fine"}} {
		_, err := w.store.SettleGrant(w.ctx(), w.a, c.ID, s.version, s.status)
		w.code(err, fault.InvalidArgument, name)
	}
}

// grantSettledAtOnce: whatever the order, the greatest version counts, and a
// refusal over what was said for the same version.
func grantSettledAtOnce(w *world) {
	for range 5 {
		c := w.insert(w.a, draft(w.hq, providers.Storage))
		w.give(w.a, c.ID, 1)
		var all []said
		for v := int64(1); v <= 10; v++ {
			all = append(all, said{v, refused}, said{v, alive})
		}
		all = append(all, said{11, alive})
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var wg sync.WaitGroup
		for _, s := range all {
			wg.Go(func() {
				if _, err := w.store.SettleGrant(w.ctx(), w.a, c.ID, s.version, s.status); err != nil {
					w.Errorf("settle %+v: %v", s, err)
				}
			})
		}
		wg.Wait()
		if got := w.grant(w.a, c.ID); got.Version != 11 || got.Status != alive {
			w.Errorf("in the order %v: %+v", all, got)
		}
		w.settle(c.ID, 11, refused)
		if got := w.grant(w.a, c.ID); got.Version != 11 || got.Status != refused {
			w.Errorf("refused at last: %+v", got)
		}
	}
}

// grantDrift: the control plane finds what to bring in line, of all tenants, and
// doing so is a change as any other.
func grantDrift(w *world) {
	drifted := func(n int) map[connector.ID]connector.GrantDrift {
		w.Helper()
		list, err := w.store.DriftedGrants(w.ctx(), n)
		w.ok(err, "drifted")
		out := map[connector.ID]connector.GrantDrift{}
		for _, d := range list {
			out[d.Connector] = d
		}
		if len(out) != len(list) {
			w.Errorf("twice in %+v", list)
		}
		return out
	}
	own := w.granted(1)
	other := w.insert(w.b, draft(w.hq, providers.Storage))
	w.give(w.b, other.ID, 2)
	bare := draft(w.lab, providers.Storage) // in need of a grant, and without one
	bare.State = connector.StateNeedsReauthorization
	w.insert(w.a, bare)
	gone := w.insert(w.a, draft(w.hq, providers.Email))
	w.give(w.a, gone.ID, 1)
	w.settle(gone.ID, 1, refused)
	w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	if got := drifted(10); len(got) != 0 {
		w.Errorf("nothing has drifted: %+v", got)
	}
	w.settle(own.ID, 1, refused)
	if _, err := w.store.SettleGrant(w.ctx(), w.b, other.ID, 5, refused); err != nil {
		w.Fatal(err)
	}
	want := map[connector.ID]connector.GrantDrift{
		own.ID:   {Tenant: w.a, Connector: own.ID, Version: 1, Status: refused},
		other.ID: {Tenant: w.b, Connector: other.ID, Version: 5, Status: refused},
	}
	if got := drifted(10); !maps.Equal(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
	if got := drifted(1); len(got) != 1 {
		w.Errorf("at most one: %+v", got)
	}
	if got := drifted(0); len(got) != 0 {
		w.Errorf("at most none: %+v", got)
	}

	// In line again: the answer has changed, so version and revision move.
	rev := w.revision(w.a)
	ms, trail, waiting := w.wrote(own.ID, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, own.ID, own.Version, func(c *connector.Connector) error {
			c.State = connector.StateNeedsReauthorization
			return nil
		})
	})
	w.slot("a drift", ms, own)
	if len(trail) != 1 || !slices.Equal(trail[0].Fields, []string{"state"}) || waiting.Version != own.Version+1 || w.revision(w.a) <= rev {
		w.Errorf("a drift is on record as %+v; version %d, revision %d after %d", trail, waiting.Version, w.revision(w.a), rev)
	}
	if s := w.answer(w.a, w.hq, providers.Storage); s.Connector == nil || s.Connector.State != connector.StateNeedsReauthorization || s.Grant != refused {
		w.Errorf("the answer is %+v", s)
	}
	delete(want, own.ID)
	if got := drifted(10); !maps.Equal(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
	// A holder that was late heals it.
	w.settle(own.ID, 2, alive)
	want[own.ID] = connector.GrantDrift{Tenant: w.a, Connector: own.ID, Version: 2, Status: alive}
	if got := drifted(10); !maps.Equal(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
	w.update(w.a, waiting, func(c *connector.Connector) { c.State = connector.StateUntested })
	delete(want, own.ID)
	if got := drifted(10); !maps.Equal(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
}

// grantWalls writes past every check in Go.
func grantWalls(w *world) {
	c := w.granted(3)
	w.acquire(c.ID, "one", long)
	was := w.grant(w.a, c.ID)
	for name, set := range map[string]string{
		"an owner for ever":    "until = NULL",
		"an end of nobody's":   "owner = NULL",
		"an owner of no name":  "owner = ''",
		"an unknown status":    "status = 'fine'",
		"no status":            "status = NULL",
		"an epoch that was":    "epoch = epoch - 1",
		"a version that was":   "grant_version = grant_version - 1",
		"a version below none": "grant_version = -1",
		"another tenant":       "tenant_id = 'globex'",
	} {
		err := w.h.Force(w, w.store, w.a, c.ID, "oauth_grants", set)
		if err == nil {
			w.Errorf("%s was taken", name)
		}
		if name != "another tenant" { // which wall refuses first is the store's to say
			w.code(err, fault.InvalidArgument, name)
		}
	}
	if got := w.grant(w.a, c.ID); !sameGrant(got, was) {
		w.Errorf("%+v, was %+v", got, was)
	}
}

// grantCalls is every method on one grant; what finds something fails with
// errFound. The lease of owner "one" has the epoch.
func grantCalls(s connector.Grants, t tenant.ID, id connector.ID, epoch int64) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Grant": func(ctx context.Context) error {
			row, err := s.Grant(ctx, t, id)
			return nothing(!sameGrant(row, connector.GrantRow{}), err)
		},
		"AcquireGrant": func(ctx context.Context) error {
			row, acquired, err := s.AcquireGrant(ctx, t, id, "intruder", long)
			return nothing(acquired || !sameGrant(row, connector.GrantRow{}), err)
		},
		"RenewGrant": func(ctx context.Context) error {
			held, err := s.RenewGrant(ctx, t, id, "one", epoch, long)
			return nothing(held, err)
		},
		"ReleaseGrant": func(ctx context.Context) error { return s.ReleaseGrant(ctx, t, id, "one", epoch) },
		"SettleGrant": func(ctx context.Context) error {
			recorded, err := s.SettleGrant(ctx, t, id, 99, connector.GrantNeedsReauthorization)
			return nothing(recorded, err)
		},
	}
}

var errFound = errors.New("a grant was found")

func nothing(found bool, err error) error {
	if err == nil && found {
		err = errFound
	}
	return err
}

// isolationOfGrants aims every method at tenant A's connector, as tenant B.
func isolationOfGrants(w *world) {
	c := w.granted(7)
	w.acquire(c.ID, "one", long)
	was := w.grant(w.a, c.ID)
	calls := grantCalls(w.store, w.b, c.ID, was.Epoch)
	complete[connector.Grants](w, calls, "DriftedGrants") // of all tenants, for who may see them
	for name, call := range calls {
		w.ok(call(w.ctx()), name)
		if got := w.grant(w.a, c.ID); !sameGrant(got, was) {
			w.Errorf("%s: %+v, was %+v", name, got, was)
		}
	}
	// The same calls must find something as tenant a, or they prove nothing.
	calls = grantCalls(w.store, w.a, c.ID, was.Epoch)
	for name, call := range calls {
		if name == "ReleaseGrant" {
			continue // tells nothing, and would end what the others find
		}
		if err := call(w.ctx()); !errors.Is(err, errFound) {
			w.Errorf("%s finds nothing as tenant a either: %v", name, err)
		}
	}
	w.ok(w.store.ReleaseGrant(w.ctx(), w.a, c.ID, "one", was.Epoch), "release")
	if got := w.grant(w.a, c.ID); got.Owner != "" {
		w.Errorf("ReleaseGrant does nothing as tenant a either: %+v", got)
	}
}
