package postgres

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/storetest"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newDatabase migrates a database of its own; its owner is no superuser.
func newDatabase(t testing.TB, s *testenv.PostgresServer) (ownerURL string) {
	t.Helper()
	ownerURL = s.NewDatabase(t)
	// From Postgres 16 on, CREATEROLE does not reach roles that another login made.
	u, err := url.Parse(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles() {
		_ = s.Exec("CREATE ROLE " + role + " NOLOGIN") // another test's may be there
		if err := s.Exec("GRANT " + role + " TO " + u.User.Username()); err != nil {
			t.Fatal(err)
		}
	}
	if err := Migrate(t.Context(), secret.New(ownerURL), nil); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return ownerURL
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{URL: secret.New(url), MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func secretOf(s string) secret.Value { return secret.New(s) }

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestStore(t *testing.T) {
	server := testenv.Postgres(t)
	storetest.Run(t, storetest.Harness{
		// A control plane's login, which owns nothing: what it may is what the
		// migration grants.
		New: func(t testing.TB) connector.Store {
			return open(t, login(t, server, newDatabase(t, server), "patchbay_admin", "patchbay_relay"))
		},
		Force: func(t testing.TB, s connector.Store, tn tenant.ID, id connector.ID, table, set string) error {
			key := map[string]string{"connectors": "id", "connector_params": "connector_id", "oauth_grants": "connector_id"}[table]
			return s.(*Store).read(within(t, 30*time.Second), scope{tenant: tn},
				`UPDATE `+table+` SET `+set+` WHERE tenant_id = $1 AND `+key+` = $2::uuid`,
				[]any{tn.String(), id.String()}, func(pgx.Rows) error { return nil })
		},
	})
}

// as runs one raw statement as a tenant.
func as(t testing.TB, s *Store, id tenant.ID, sql string, args ...any) {
	t.Helper()
	err := s.read(within(t, 30*time.Second), scope{tenant: id}, sql, args, func(pgx.Rows) error { return nil })
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
