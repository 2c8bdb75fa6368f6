package housekeeping_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var acme = tenant.MustID("acme")

// world is a store and a secret store with one tenant. Time is moved by ahead.
type world struct {
	testing.TB
	store   connector.Store
	secrets vault.Store
	ahead   time.Duration
	log     bytes.Buffer
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%v (%s)", err, fault.CodeOf(err))
	}
}

func (w *world) sweeper(store connector.Store) *housekeeping.Sweeper {
	return housekeeping.New(housekeeping.Options{
		Store: store, Secrets: w.secrets, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Now: func() time.Time { return time.Now().Add(w.ahead) },
	})
}

func (w *world) sweep() {
	w.Helper()
	w.ok(w.sweeper(w.store).Sweep(w.Context()))
}

// write stores a bundle of a connector.
func (w *world) write(t tenant.ID, id connector.ID) connector.SecretRef {
	w.Helper()
	ref := connector.SecretRef{Tenant: t, Connector: id, Pin: vault.NewPin()}
	w.ok(w.secrets.Write(w.Context(), ref, vault.Bundle{Values: secret.Map{"secret_access_key": secret.New("s")}}))
	return ref
}

func (w *world) change(fn func(ctx context.Context, tx connector.TenantTx) error) {
	w.Helper()
	_, err := w.store.Change(w.Context(), connector.Change{Tenants: []tenant.ID{acme}, Actor: "test", SecretsWritten: time.Now()},
		func(ctx context.Context, tx connector.Tx) error { return fn(ctx, tx.Tenant(acme)) })
	w.ok(err)
}

// insert stores a connector that pins a bundle.
func (w *world) insert() connector.SecretRef {
	w.Helper()
	ref := w.write(acme, connector.NewID())
	w.change(func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Insert(ctx, connector.Connector{
			ID: ref.Connector, Name: "S3", Category: "storage", Kind: "s3", SchemaVersion: 1, State: connector.StateUntested,
			Secrets: map[string]connector.SecretInfo{"secret_access_key": {Version: 1, Writer: connector.WriterAPI, UpdatedAt: time.Now()}}, Pin: ref.Pin,
		})
	})
	return ref
}

func (w *world) update(id connector.ID, version int64, fn func(c *connector.Connector)) {
	w.Helper()
	w.change(func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, id, version, func(c *connector.Connector) error { fn(c); return nil })
	})
}

// state of a bundle: "alive", "deleted" or "destroyed".
func (w *world) state(ref connector.SecretRef) string {
	w.Helper()
	all, err := w.secrets.Refs(w.Context(), ref.Tenant, ref.Connector)
	w.ok(err)
	for _, s := range all {
		if s.Ref != ref {
			continue
		}
		if s.DeletedAt.IsZero() {
			return "alive"
		}
		return "deleted"
	}
	return "destroyed"
}

func (w *world) is(what string, ref connector.SecretRef, want string) {
	w.Helper()
	if got := w.state(ref); got != want {
		w.Errorf("%s: %s, want %s", what, got, want)
	}
}

// embedded are the stores of dev.
func embedded(t *testing.T) *world {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	secrets, err := sealed.Open(filepath.Join(t.TempDir(), "secrets"), sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secrets.Close() })
	return withTenant(t, store, secrets)
}

// servers are a Postgres and a Vault.
func servers(t *testing.T) *world { return serversOn(t, testenv.Vault(t)) }

func serversOn(t *testing.T, vlt *testenv.VaultServer) *world {
	pg := testenv.Postgres(t)
	owner := pg.NewDatabase(t)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"patchbay_sidecar", "patchbay_admin", "patchbay_relay"} {
		_ = pg.Exec("CREATE ROLE " + role + " NOLOGIN") // another test's may be there
		if err := pg.Exec("GRANT " + role + " TO " + u.User.Username()); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Migrate(t.Context(), secret.New(owner), nil); err != nil {
		t.Fatal(err)
	}
	// What a control plane's login and token may, and no more.
	database := strings.TrimPrefix(u.Path, "/")
	login := database + "_sweeper"
	if err := pg.Exec("CREATE ROLE " + login + " LOGIN IN ROLE patchbay_admin, patchbay_relay"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Exec("DROP ROLE " + login) }) // the server goes anyway
	store, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New(pg.URL(login, database)), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	mount := vlt.NewMount(t)
	policy := vlt.NewPolicy(t, `path "`+mount+`/data/pb/*" { capabilities = ["create", "read", "update", "delete"] }
path "`+mount+`/metadata/pb/*" { capabilities = ["read", "list", "delete"] }
path "`+mount+`/destroy/pb/+/+/grant" { capabilities = ["update"] }`)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(vlt.NewToken(t, nil, policy)), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := vault.Open(t.Context(), vault.Options{
		Address: vlt.Addr, Mount: mount, Prefix: "pb", Auth: vault.Auth{Method: vault.AuthToken, TokenFile: token},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secrets.Close() })
	return withTenant(t, store, secrets)
}

func withTenant(t *testing.T, store connector.Store, secrets vault.Store) *world {
	w := &world{TB: t, store: store, secrets: secrets}
	_, err := store.Change(t.Context(), connector.Change{Create: []connector.Tenant{{ID: acme, Name: "Acme", Status: connector.StatusReady}}, Actor: "test"},
		func(context.Context, connector.Tx) error { return nil })
	w.ok(err)
	return w
}

// both runs a test over the embedded stores and over real servers.
func both(t *testing.T, test func(w *world)) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *world{"embedded": embedded, "servers": servers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(open(t))
		})
	}
}

func TestSweepTakesWhatNothingPins(t *testing.T) {
	both(t, func(w *world) {
		present, rotated, gone := w.insert(), w.insert(), w.insert()
		next := w.write(acme, rotated.Connector)
		w.update(rotated.Connector, 1, func(c *connector.Connector) { c.Pin = next.Pin })
		w.update(gone.Connector, 1, func(c *connector.Connector) { c.DeletedAt = time.Now() })
		orphan := w.write(acme, present.Connector) // its transaction never happened
		unborn := w.write(acme, connector.NewID()) // nor its connector's
		foreign := w.write(tenant.MustID("globex"), connector.NewID())
		before, err := w.store.Revisions(w.Context(), []tenant.ID{acme})
		w.ok(err)

		w.ahead = 59 * time.Minute // an import may be about to commit
		w.sweep()
		w.is("a young orphan", orphan, "alive")

		w.ahead = 61 * time.Minute
		w.sweep()
		w.sweep() // a second replica finds nothing more to do
		for what, ref := range map[string]connector.SecretRef{
			"a connector's own": present, "a revision's": rotated, "a rotated connector's": next, "a deleted connector's": gone,
			"an unknown tenant's": foreign,
		} {
			w.is(what, ref, "alive")
		}
		w.is("an orphan", orphan, "deleted")
		w.is("an orphan without connector", unborn, "deleted")
		if !strings.Contains(w.log.String(), "tenant=globex") {
			w.Errorf("the unknown tenant is not named: %s", w.log.String())
		}

		w.ahead = 7*24*time.Hour - time.Minute
		w.sweep()
		w.is("deleted for less than seven days", orphan, "deleted")
		w.ahead = 7*24*time.Hour + time.Minute
		w.sweep()
		w.is("deleted for seven days", orphan, "destroyed")
		w.is("deleted for seven days", unborn, "destroyed")
		w.is("a connector's own", present, "alive")
		if _, err := w.secrets.Read(w.Context(), present); err != nil {
			w.Errorf("a connector's own secrets: %v", err)
		}

		after, err := w.store.Revisions(w.Context(), []tenant.ID{acme})
		w.ok(err)
		if before.Revision[acme] != after.Revision[acme] {
			w.Error("sweeping moved the tenant's revision: every sidecar would read everything again")
		}
	})
}

// late lets something happen after the sweeper has looked and before it locks.
type late struct {
	connector.Store
	first func()
}

func (l *late) Change(ctx context.Context, c connector.Change, fn func(ctx context.Context, tx connector.Tx) error) (map[tenant.ID]int64, error) {
	l.first()
	return l.Store.Change(ctx, c, fn)
}

// A restore pins an old bundle between the sweeper's look and its lock: what it
// saw before the lock may not count.
func TestSweepAsksAgainUnderTheLock(t *testing.T) {
	both(t, func(w *world) {
		present := w.insert()
		orphan := w.write(acme, present.Connector)
		w.ahead = 2 * time.Hour
		store := &late{Store: w.store, first: func() {
			w.update(present.Connector, 1, func(c *connector.Connector) { c.Pin = orphan.Pin })
		}}
		w.ok(w.sweeper(store).Sweep(w.Context()))
		w.is("a bundle that was pinned meanwhile", orphan, "alive")
	})
}

// unreachable is a secret store that went away after it listed its tenants.
type unreachable struct {
	vault.Store
	asked int
}

func (u *unreachable) Connectors(context.Context, tenant.ID) ([]connector.ID, error) {
	u.asked++
	return nil, fault.New(fault.Unavailable, "Vault can't be reached")
}

func TestSweepStopsAtAnOutage(t *testing.T) {
	t.Parallel()
	w := embedded(t)
	w.insert()
	hooli := tenant.MustID("hooli")
	_, err := w.store.Change(t.Context(), connector.Change{Create: []connector.Tenant{{ID: hooli, Name: "Hooli", Status: connector.StatusReady}}, Actor: "test"},
		func(context.Context, connector.Tx) error { return nil })
	w.ok(err)
	w.write(hooli, connector.NewID())
	away := &unreachable{Store: w.secrets}
	err = housekeeping.New(housekeeping.Options{Store: w.store, Secrets: away}).Sweep(t.Context())
	if fault.CodeOf(err) != fault.Unavailable || away.asked != 1 {
		t.Errorf("%v after %d questions", err, away.asked)
	}
}

// broken is a secret store that lists nothing, now and then.
type broken struct {
	vault.Store
	asked atomic.Int64
}

func (b *broken) Tenants(context.Context) ([]tenant.ID, error) {
	if b.asked.Add(1)%2 == 0 {
		return nil, fault.New(fault.Unavailable, "Vault can't be reached")
	}
	return nil, nil
}

// A pass that fails is counted, and the next one comes.
func TestRunGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		secrets := &broken{}
		s := housekeeping.New(housekeeping.Options{Secrets: secrets})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		n := secrets.asked.Load() // every half hour to one and a half
		if n < 15 || n > 49 || s.Failures.Load() != n/2 {
			t.Errorf("%d passes in a day, %d failures", n, s.Failures.Load())
		}
	})
}
