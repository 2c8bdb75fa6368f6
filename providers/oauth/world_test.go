package oauth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

func TestMain(m *testing.M) {
	if plan := os.Getenv(holderPlan); plan != "" {
		holder(plan)
		return
	}
	testenv.Main(m)
}

var acme = tenant.MustID("acme")

// store is what a test needs of a connector store.
type store interface {
	Lease
	Change(ctx context.Context, c connector.Change, f func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error)
}

// world is a connector with an OAuth2 client, its stores, and who is at them.
type world struct {
	testing.TB

	store  store
	vault  GrantStore
	lease  *flakyLease
	grants *flakyGrants
	id     connector.ID
	app    providers.OAuthApp
	ref    connector.GrantRef
	log    *syncBuffer
}

// newWorld is a world on the embedded stores.
func newWorld(t testing.TB, app providers.OAuthApp) *world {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "store.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	v, err := sealed.Open(filepath.Join(dir, "sealed"), sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return worldOn(t, s, v, app)
}

func worldOn(t testing.TB, s store, v GrantStore, app providers.OAuthApp) *world {
	t.Helper()
	w := &world{TB: t, store: s, vault: v, lease: &flakyLease{Lease: s}, grants: &flakyGrants{GrantStore: v}, app: app, id: connector.NewID(), log: &syncBuffer{}}
	w.change(connector.Change{Actor: "test", Create: []connector.Tenant{{ID: acme, Name: "Acme", Status: connector.StatusReady}}},
		func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Insert(ctx, connector.Connector{
				ID: w.id, Name: "Mail", Category: "email", Kind: "gmail_oauth2", SchemaVersion: 1, State: connector.StateUntested, Active: true,
			})
		})
	w.ref = connector.GrantRef{Tenant: acme, Connector: w.id, Pin: vault.NewPin()}
	return w
}

func (w *world) change(c connector.Change, f func(context.Context, connector.TenantTx) error) {
	w.Helper()
	_, err := w.store.Change(within(w, 30*time.Second), c, func(ctx context.Context, tx connector.Tx) error { return f(ctx, tx.Tenant(acme)) })
	if err != nil {
		w.Fatal(err)
	}
}

// manager is one process' worth of memory.
func (w *world) manager(edit func(*Options)) *Manager {
	w.Helper()
	d, err := egress.New(egress.Config{AnyLoopback: true})
	if err != nil {
		w.Fatal(err)
	}
	transport := d.Transport()
	o := Options{
		Lease: w.lease, Grants: w.grants, Client: providers.Runtime{Transport: transport}.Client(), HTTPTimeout: 2 * time.Second,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if edit != nil {
		edit(&o)
	}
	m, err := New(o)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = m.Close(ctx)
		transport.CloseIdleConnections()
	})
	return m
}

// give stores values as a user's consent, and lets the world know of it.
func (w *world) give(values secret.Map) {
	w.Helper()
	ctx := within(w, 30*time.Second)
	g, err := w.vault.ReadGrant(ctx, acme, w.id)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		w.Fatal(err)
	}
	v, err := w.vault.WriteGrant(ctx, acme, w.id, values, g.Version)
	if err != nil {
		w.Fatal(err)
	}
	w.change(connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutGrant(ctx, w.id, v)
	})
	w.ref.GrantVersion = v
}

// consent is a user's, at a real issuer.
func (w *world) consent(m *Manager, i *issuer) {
	w.Helper()
	verifier := NewVerifier()
	code := i.agree(w, AuthCodeURL(w.app, redirectURL, "a state", verifier))
	values, _, err := m.Exchange(within(w, 30*time.Second), w.app, code, verifier, redirectURL)
	if err != nil {
		w.Fatal(err)
	}
	w.give(values)
}

// old is a grant whose access token has ended, or ends in left.
func (w *world) old(refresh string, left time.Duration) secret.Map {
	now := time.Now()
	return secret.Map{
		grantRefresh: secret.New(refresh), grantAccess: secret.New("held-canary"), grantType: secret.New("Bearer"),
		grantIssued: secret.New(now.Add(-time.Hour).Format(time.RFC3339Nano)), grantExpires: secret.New(now.Add(left).Format(time.RFC3339Nano)),
		grantClientID: secret.New(w.app.ClientID), grantTokenURL: secret.New(w.app.TokenURL),
	}
}

// age makes the stored token one that is due and ends in left.
func (w *world) age(left time.Duration) {
	w.Helper()
	v := w.stored().Values.Clone()
	for name, value := range w.old("", left) {
		if name == grantIssued || name == grantExpires {
			v[name] = value
		}
	}
	w.give(v)
}

func (w *world) source(m *Manager) providers.TokenSource { return m.Source(w.ref, w.app) }

// ask gets a token, and fails the test without one.
func (w *world) ask(m *Manager) providers.Token {
	w.Helper()
	t, err := w.source(m).Token(within(w, 20*time.Second))
	if err != nil {
		w.Fatal(err)
	}
	return t
}

// fails asks for a token and wants an error with this code.
func (w *world) fails(m *Manager, code providers.TestCode, as fault.Code) error {
	w.Helper()
	t, err := w.source(m).Token(within(w, 20*time.Second))
	e, ok := errors.AsType[*providers.TokenError](err)
	if !ok || e.Code != code || fault.CodeOf(err) != as {
		w.Fatalf("wanted %s (%s), got %v, token set: %v", code, as, err, t.Access.IsSet())
	}
	return err
}

func (w *world) row() connector.GrantRow {
	w.Helper()
	row, err := w.store.Grant(within(w, 10*time.Second), acme, w.id)
	if err != nil {
		w.Fatal(err)
	}
	return row
}

func (w *world) stored() vault.Grant {
	w.Helper()
	g, err := w.vault.ReadGrant(within(w, 10*time.Second), acme, w.id)
	if err != nil {
		w.Fatal(err)
	}
	return g
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// flakyLease is a real lease store that can be taken away.
type flakyLease struct {
	Lease

	down atomic.Bool
}

var errAway = fault.New(fault.Unavailable, "away")

func (l *flakyLease) Grant(ctx context.Context, t tenant.ID, id connector.ID) (connector.GrantRow, error) {
	if l.down.Load() {
		return connector.GrantRow{}, errAway
	}
	return l.Lease.Grant(ctx, t, id)
}

func (l *flakyLease) AcquireGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, d time.Duration) (connector.GrantRow, bool, error) {
	if l.down.Load() {
		return connector.GrantRow{}, false, errAway
	}
	return l.Lease.AcquireGrant(ctx, t, id, owner, d)
}

func (l *flakyLease) RenewGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64, d time.Duration) (bool, error) {
	if l.down.Load() {
		return false, errAway
	}
	return l.Lease.RenewGrant(ctx, t, id, owner, epoch, d)
}

func (l *flakyLease) ReleaseGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64) error {
	if l.down.Load() {
		return errAway
	}
	return l.Lease.ReleaseGrant(ctx, t, id, owner, epoch)
}

func (l *flakyLease) SettleGrant(ctx context.Context, t tenant.ID, id connector.ID, version int64, status connector.GrantStatus) (bool, error) {
	if l.down.Load() {
		return false, errAway
	}
	return l.Lease.SettleGrant(ctx, t, id, version, status)
}

// flakyGrants is a real grant store that can be taken away, read-only, or silent
// about a write that took place.
type flakyGrants struct {
	GrantStore

	down, readOnly, silent atomic.Bool
	reads, writes          atomic.Int64
	// onRead is called before a read, once.
	onRead atomic.Pointer[func()]
}

func (g *flakyGrants) ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (vault.Grant, error) {
	g.reads.Add(1)
	if f := g.onRead.Swap(nil); f != nil {
		(*f)()
	}
	if g.down.Load() {
		return vault.Grant{}, errAway
	}
	return g.GrantStore.ReadGrant(ctx, t, id)
}

func (g *flakyGrants) WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, v secret.Map, cas int64) (int64, error) {
	g.writes.Add(1)
	if g.down.Load() || g.readOnly.Load() {
		return 0, errAway
	}
	n, err := g.GrantStore.WriteGrant(ctx, t, id, v, cas)
	if err == nil && g.silent.Load() {
		return 0, errAway
	}
	return n, err
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
