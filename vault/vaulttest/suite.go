package vaulttest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// Harness makes stores for the suite.
type Harness struct {
	// Open returns an empty store that logs to log (where it logs at all), and
	// is closed by t's cleanup. It may write; it is ready.
	Open func(t *testing.T, log *slog.Logger) vault.Store
	// Times tells how far the store's clock may be from this process's.
	Times time.Duration
	// Kept returns all that the store of t's Open still keeps of a connector's grant,
	// in clear: every version that somebody with all rights could read.
	Kept func(t *testing.T, tn tenant.ID, id connector.ID) string
}

// canary is a secret that no error text and no log line may show.
const canary = "canary-9f3b27c1"

var (
	acme   = tenant.MustID("acme")
	globex = tenant.MustID("globex")
)

// fixture is one store with what it logged.
type fixture struct {
	vault.Store
	h    Harness
	logs *lockedBuffer
}

// lockedBuffer is written by the store's goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Run runs the suite. Rows run in parallel, each on a store of its own.
func Run(t *testing.T, h Harness) {
	rows := []struct {
		name string
		run  func(*testing.T, fixture)
	}{
		{"round trip", roundTrip},
		{"odd values", oddValues},
		{"write once", writeOnce},
		{"gone and never there", gone},
		{"another tenant", otherTenant},
		{"bad references", badRefs},
		{"listing", listing},
		{"grants", grants},
		{"grant race", grantRace},
		{"grant forgotten", grantForgotten},
		{"grant destroyed", grantDestroyed},
		{"deadline", deadline},
		{"canaries", canaries},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			logs := &lockedBuffer{}
			s := h.Open(t, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
			row.run(t, fixture{s, h, logs})
		})
	}
}

func newRef(t tenant.ID) connector.SecretRef {
	return connector.SecretRef{Tenant: t, Connector: connector.NewID(), Pin: vault.NewPin()}
}

func bundle(v string) vault.Bundle {
	return vault.Bundle{Values: secret.Map{"password": secret.New(v)}}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func want(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Fatalf("got code %q (%v), want %q", got, err, code)
	}
}

func roundTrip(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	in := vault.Bundle{
		Values:   secret.Map{"access_key_id": secret.New("AK"), "secret_access_key": secret.New("s3cr3t")},
		Imported: map[string]string{"access_key_id": "aa11"},
	}
	ok(t, f.Ready(ctx))
	ok(t, f.Write(ctx, ref, in))
	got, err := f.Read(ctx, ref)
	ok(t, err)
	if !got.Values.Equal(in.Values) || got.Imported["access_key_id"] != "aa11" || len(got.Imported) != 1 {
		t.Fatalf("read %v %v, want %v %v", got.Values, got.Imported, in.Values, in.Imported)
	}
}

func oddValues(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	in := secret.Map{
		"empty": secret.New(""), "lines": secret.New("-----BEGIN\nx\r\n\t\x00<>&\u2028"),
		"päss wörd/../x": secret.New("日本\U0001f511"), "long": secret.New(strings.Repeat("k", 200_000)),
	}
	ok(t, f.Write(ctx, ref, vault.Bundle{Values: in}))
	got, err := f.Read(ctx, ref)
	ok(t, err)
	if !got.Values.Equal(in) {
		t.Fatalf("read names %v, sizes %d and %d", got.Values.Names(), got.Values.Size(), in.Size())
	}
	// JSON would replace these bytes in silence: the password would be wrong for ever.
	want(t, f.Write(ctx, newRef(acme), bundle("\xff\xfe")), fault.InvalidArgument)
	none := newRef(acme)
	ok(t, f.Write(ctx, none, vault.Bundle{Values: secret.Map{}}))
	empty, err := f.Read(ctx, none)
	ok(t, err)
	if len(empty.Values) != 0 {
		t.Fatalf("an empty bundle came back as %v", empty.Values)
	}
}

func writeOnce(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	ok(t, f.Write(ctx, ref, bundle("first")))
	want(t, f.Write(ctx, ref, bundle("second")), fault.AlreadyExists)
	got, err := f.Read(ctx, ref)
	ok(t, err)
	if !got.Values.Equal(bundle("first").Values) {
		t.Fatal("the second write changed the bundle")
	}
	ok(t, f.Delete(ctx, ref))
	want(t, f.Write(ctx, ref, bundle("third")), fault.AlreadyExists)

	race := newRef(acme)
	won := make(chan int, 10)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if f.Write(ctx, race, bundle(fmt.Sprint(i))) == nil {
				won <- i
			}
		})
	}
	wg.Wait()
	close(won)
	winner, open := <-won
	if _, more := <-won; !open || more {
		t.Fatal("not exactly one of ten concurrent writers won")
	}
	got, err = f.Read(ctx, race)
	ok(t, err)
	if !got.Values.Equal(bundle(fmt.Sprint(winner)).Values) {
		t.Fatal("another writer's bundle than the winner's is stored")
	}
}

// gone pins the difference that the resolver lives by: a deleted bundle is an
// answer, an absent one is a fault.
func gone(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	_, err := f.Read(ctx, ref)
	want(t, err, fault.Unavailable)
	ok(t, f.Delete(ctx, ref))
	_, err = f.Read(ctx, ref)
	want(t, err, fault.Unavailable)

	ok(t, f.Write(ctx, ref, bundle("x")))
	ok(t, f.Delete(ctx, ref))
	ok(t, f.Delete(ctx, ref))
	_, err = f.Read(ctx, ref)
	want(t, err, fault.NotFound)

	ok(t, f.Destroy(ctx, ref))
	ok(t, f.Destroy(ctx, ref))
	_, err = f.Read(ctx, ref)
	want(t, err, fault.Unavailable)
}

func otherTenant(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	ok(t, f.Write(ctx, ref, bundle(canary)))
	_, err := f.WriteGrant(ctx, acme, ref.Connector, bundle(canary).Values, 0)
	ok(t, err)
	theirs := ref
	theirs.Tenant = globex
	got, err := f.Read(ctx, theirs)
	want(t, err, fault.Unavailable)
	if len(got.Values) != 0 {
		t.Fatal("another tenant's reference read a value")
	}
	ok(t, f.Delete(ctx, theirs))
	ok(t, f.Destroy(ctx, theirs))
	g, err := f.ReadGrant(ctx, globex, ref.Connector)
	ok(t, err)
	if g.Version != 0 || len(g.Values) != 0 {
		t.Fatal("another tenant read the grant")
	}
	refs, err := f.Refs(ctx, globex, ref.Connector)
	ok(t, err)
	if len(refs) != 0 {
		t.Fatal("another tenant lists the bundle")
	}
	_, err = f.Read(ctx, ref)
	ok(t, err)
}

func badRefs(t *testing.T, f fixture) {
	ctx, good := t.Context(), newRef(acme)
	for name, ref := range map[string]connector.SecretRef{
		"zero":         {},
		"no tenant":    {Connector: good.Connector, Pin: good.Pin},
		"no connector": {Tenant: acme, Pin: good.Pin},
		"no pin":       {Tenant: acme, Connector: good.Connector},
	} {
		_, err := f.Read(ctx, ref)
		for call, err := range map[string]error{
			"read": err, "write": f.Write(ctx, ref, bundle("x")), "delete": f.Delete(ctx, ref), "destroy": f.Destroy(ctx, ref),
		} {
			if fault.CodeOf(err) != fault.InvalidArgument {
				t.Errorf("%s: %s answered %v", name, call, err)
			}
		}
	}
	_, err := f.ReadGrant(ctx, acme, connector.ID{})
	want(t, err, fault.InvalidArgument)
	_, err = f.WriteGrant(ctx, tenant.ID{}, good.Connector, secret.Map{}, 0)
	want(t, err, fault.InvalidArgument)
}

func listing(t *testing.T, f fixture) {
	ctx := t.Context()
	before := time.Now().Add(-f.h.Times)
	tenants, err := f.Tenants(ctx)
	ok(t, err)
	if len(tenants) != 0 {
		t.Fatalf("a fresh store lists tenants %v", tenants)
	}
	a, b := newRef(acme), newRef(globex)
	a2 := connector.SecretRef{Tenant: acme, Connector: a.Connector, Pin: vault.NewPin()}
	for _, ref := range []connector.SecretRef{a, a2, b} {
		ok(t, f.Write(ctx, ref, bundle("x")))
	}
	_, err = f.WriteGrant(ctx, acme, a.Connector, bundle("g").Values, 0)
	ok(t, err)
	ok(t, f.Delete(ctx, a2))
	tenants, err = f.Tenants(ctx)
	ok(t, err)
	slices.SortFunc(tenants, tenant.ID.Compare)
	if !slices.Equal(tenants, []tenant.ID{acme, globex}) {
		t.Fatalf("tenants %v", tenants)
	}
	ids, err := f.Connectors(ctx, acme)
	ok(t, err)
	if !slices.Equal(ids, []connector.ID{a.Connector}) {
		t.Fatalf("connectors %v", ids)
	}
	refs, err := f.Refs(ctx, acme, a.Connector)
	ok(t, err)
	if len(refs) != 2 { // the grant is no bundle: the sweeper must not touch it
		t.Fatalf("%d bundles, want 2", len(refs))
	}
	after := time.Now().Add(f.h.Times)
	for _, s := range refs {
		if s.Ref != a && s.Ref != a2 {
			t.Errorf("unknown %v", s.Ref)
		}
		if s.WrittenAt.Before(before) || s.WrittenAt.After(after) {
			t.Errorf("written at %v, now is %v", s.WrittenAt, time.Now())
		}
		if (s.Ref == a2) != (!s.DeletedAt.IsZero()) {
			t.Errorf("%v deleted at %v", s.Ref.Pin, s.DeletedAt)
		}
		if s.Ref == a2 && (s.DeletedAt.Before(before) || s.DeletedAt.After(after)) {
			t.Errorf("deleted at %v, now is %v", s.DeletedAt, time.Now())
		}
	}
	ok(t, f.Destroy(ctx, a2))
	refs, err = f.Refs(ctx, acme, a.Connector)
	ok(t, err)
	if len(refs) != 1 || refs[0].Ref != a {
		t.Fatalf("after destroy: %d bundles", len(refs))
	}
	none, err := f.Refs(ctx, acme, connector.NewID())
	ok(t, err)
	if len(none) != 0 {
		t.Fatal("an unknown connector has bundles")
	}
}

func grants(t *testing.T, f fixture) {
	ctx, id := t.Context(), connector.NewID()
	g, err := f.ReadGrant(ctx, acme, id)
	ok(t, err)
	if g.Version != 0 {
		t.Fatalf("a grant that never was has version %d", g.Version)
	}
	for v := range int64(3) {
		n, err := f.WriteGrant(ctx, acme, id, bundle(fmt.Sprint("v", v+1)).Values, v)
		ok(t, err)
		if n != v+1 {
			t.Fatalf("version %d after %d", n, v)
		}
	}
	for _, cas := range []int64{0, 2, 4} {
		_, err = f.WriteGrant(ctx, acme, id, bundle("lost").Values, cas)
		want(t, err, fault.Conflict)
	}
	g, err = f.ReadGrant(ctx, acme, id)
	ok(t, err)
	if g.Version != 3 || !g.Values.Equal(bundle("v3").Values) {
		t.Fatalf("version %d", g.Version)
	}
}

// grantForgotten leaves no token in any version, and a version that nobody knows
// yet.
func grantForgotten(t *testing.T, f fixture) {
	ctx, id := t.Context(), connector.NewID()
	if n, err := f.ForgetGrant(ctx, acme, id, 0); err != nil || n != 0 {
		t.Fatalf("one that never was: version %d, %v", n, err)
	}
	before := time.Now().Add(-f.h.Times)
	var written int64
	for v := range int64(4) {
		n, err := f.WriteGrant(ctx, acme, id, bundle(canary).Values, v)
		ok(t, err)
		written = n
	}
	if kept := f.h.Kept(t, acme, id); !strings.Contains(kept, canary) {
		t.Fatalf("the suite doesn't see what is kept: %s", kept)
	}
	for _, cas := range []int64{0, written - 1, written + 1} {
		_, err := f.ForgetGrant(ctx, acme, id, cas)
		want(t, err, fault.Conflict)
	}
	var forgotten int64
	for cas := written; cas < written+2; cas++ { // the second time there is nothing to forget
		n, err := f.ForgetGrant(ctx, acme, id, cas)
		ok(t, err)
		if forgotten = n; n != written+1 {
			t.Fatalf("version %d after %d", n, written)
		}
	}
	g, err := f.ReadGrant(ctx, acme, id)
	ok(t, err)
	if g.Version != forgotten || len(g.Values) != 0 {
		t.Fatalf("version %d with %v", g.Version, g.Values.Names())
	}
	if g.WrittenAt.Before(before) || g.WrittenAt.After(time.Now().Add(f.h.Times)) {
		t.Errorf("forgotten at %v, now is %v", g.WrittenAt, time.Now())
	}
	if kept := f.h.Kept(t, acme, id); strings.Contains(kept, canary) {
		t.Errorf("a token is left: %s", kept)
	}
	_, err = f.WriteGrant(ctx, acme, id, bundle("late").Values, written)
	want(t, err, fault.Conflict) // a refresh that was under way brings nothing back
	n, err := f.WriteGrant(ctx, acme, id, bundle("anew").Values, forgotten)
	ok(t, err)
	if g, err := f.ReadGrant(ctx, acme, id); err != nil || g.Version != n || !g.Values.Equal(bundle("anew").Values) {
		t.Errorf("the next grant: version %d, %v", g.Version, err)
	}
	_, err = f.ForgetGrant(ctx, acme, connector.ID{}, 0)
	want(t, err, fault.InvalidArgument)
}

// grantDestroyed leaves nothing of a grant, and everything of its neighbours.
func grantDestroyed(t *testing.T, f fixture) {
	ctx, id, other := t.Context(), connector.NewID(), connector.NewID()
	own := connector.SecretRef{Tenant: acme, Connector: id, Pin: vault.NewPin()}
	ok(t, f.Write(ctx, own, bundle("bundle")))
	for v := range int64(2) {
		_, err := f.WriteGrant(ctx, acme, id, bundle("grant").Values, v)
		ok(t, err)
	}
	for tn, c := range map[tenant.ID]connector.ID{acme: other, globex: id} {
		_, err := f.WriteGrant(ctx, tn, c, bundle("theirs").Values, 0)
		ok(t, err)
	}
	for range 2 { // the second time there is nothing
		ok(t, f.DestroyGrant(ctx, acme, id))
		g, err := f.ReadGrant(ctx, acme, id)
		ok(t, err)
		if g.Version != 0 || len(g.Values) != 0 {
			t.Fatalf("version %d is left", g.Version)
		}
	}
	_, err := f.WriteGrant(ctx, acme, id, bundle("late").Values, 2)
	want(t, err, fault.Conflict) // a refresh that was under way brings nothing back
	_, err = f.Read(ctx, own)
	ok(t, err)
	for tn, c := range map[tenant.ID]connector.ID{acme: other, globex: id} {
		if g, err := f.ReadGrant(ctx, tn, c); err != nil || g.Version != 1 {
			t.Errorf("another grant has version %d, %v", g.Version, err)
		}
	}
	ok(t, f.DestroyGrant(ctx, acme, other))
	ok(t, f.Destroy(ctx, own))
	if left, err := f.Connectors(ctx, acme); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	want(t, f.DestroyGrant(ctx, acme, connector.ID{}), fault.InvalidArgument)
}

func grantRace(t *testing.T, f fixture) {
	ctx, id := t.Context(), connector.NewID()
	for version := range int64(3) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []int
		for i := range 20 {
			wg.Go(func() {
				_, err := f.WriteGrant(ctx, acme, id, bundle(fmt.Sprint(version, i)).Values, version)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					winners = append(winners, i)
				} else if fault.CodeOf(err) != fault.Conflict {
					t.Errorf("a loser got %v", err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d writers won version %d", len(winners), version+1)
		}
		g, err := f.ReadGrant(ctx, acme, id)
		ok(t, err)
		if g.Version != version+1 || !g.Values.Equal(bundle(fmt.Sprint(version, winners[0])).Values) {
			t.Fatalf("version %d holds another writer's grant", g.Version)
		}
	}
}

func deadline(t *testing.T, f fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ref := newRef(acme)
	_, rerr := f.Read(ctx, ref)
	_, gerr := f.ReadGrant(ctx, acme, ref.Connector)
	_, wgerr := f.WriteGrant(ctx, acme, ref.Connector, secret.Map{}, 0)
	_, fgerr := f.ForgetGrant(ctx, acme, ref.Connector, 1)
	_, terr := f.Tenants(ctx)
	for call, err := range map[string]error{
		"read": rerr, "write": f.Write(ctx, ref, bundle("x")), "delete": f.Delete(ctx, ref), "destroy": f.Destroy(ctx, ref),
		"read grant": gerr, "write grant": wgerr, "forget grant": fgerr, "tenants": terr,
	} {
		if fault.CodeOf(err) != fault.DeadlineExceeded {
			t.Errorf("%s after the context ended: %v", call, err)
		}
	}
	_, err := f.Read(t.Context(), ref)
	want(t, err, fault.Unavailable) // nothing was written
}

// canaries collects every error that a caller can provoke and looks for
// secrets and paths in their texts and in the log.
func canaries(t *testing.T, f fixture) {
	ctx, ref := t.Context(), newRef(acme)
	b := vault.Bundle{Values: secret.Map{"password": secret.New(canary)}, Imported: map[string]string{"password": canary}}
	ok(t, f.Write(ctx, ref, b))
	_, err := f.WriteGrant(ctx, acme, ref.Connector, b.Values, 0)
	ok(t, err)
	read, err := f.Read(ctx, ref)
	ok(t, err)
	var errs []error
	_, e := f.WriteGrant(ctx, acme, ref.Connector, b.Values, 0)
	errs = append(errs, e, f.Write(ctx, ref, b), f.Write(ctx, newRef(acme), bundle(canary+"\xff")))
	_, e = f.Read(ctx, newRef(acme))
	errs = append(errs, e)
	ok(t, f.Delete(ctx, ref))
	_, e = f.Read(ctx, ref)
	errs = append(errs, e)
	ok(t, f.Destroy(ctx, ref))
	texts := []string{f.logs.String(), fmt.Sprintf("%v %+v %s", read.Values, read.Values, read.Values)}
	for _, err := range errs {
		if err == nil {
			t.Error("an error was expected")
			continue
		}
		texts = append(texts, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	for _, text := range texts {
		for _, leak := range []string{canary, ref.Connector.String(), ref.Pin.String()} {
			if strings.Contains(text, leak) {
				t.Errorf("%q shows in %q", leak, text)
			}
		}
	}
}
