package postgres

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

var tenantTables = []string{"tenants", "organizations", "connectors", "connector_params", "connector_revisions",
	"outbox", "audit", "oauth_grants", "idempotency_keys", "oauth_states", "purged_tenants"}

// login makes a role that is a member of groups and returns its URL.
func login(t testing.TB, s *testenv.PostgresServer, ownerURL string, groups ...string) string {
	t.Helper()
	u, err := url.Parse(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	name := database + "_" + strings.ReplaceAll(strings.Join(groups, "_"), "patchbay_", "")
	if err := s.Exec("CREATE ROLE " + name + " LOGIN IN ROLE " + strings.Join(groups, ", ")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Exec("DROP ROLE " + name) })
	return s.URL(name, database)
}

var (
	acme   = tenant.MustID("acme")
	globex = tenant.MustID("globex")
	hq     = tenant.MustOrganizationID("hq")
)

func sample(org tenant.OrganizationID) connector.Connector {
	return connector.Connector{ID: connector.NewID(), Name: "S3", Category: "storage", Kind: "s3", SchemaVersion: 1,
		Organization: org, State: connector.StateUntested, Active: true, Default: true,
		Params: map[string]connector.Param{"bucket": {Value: "b", Writer: connector.WriterAPI}}}
}

// seed makes both tenants with an organization, a default connector and a row
// in each table that the store itself does not write yet.
func seed(t *testing.T, s *Store) map[tenant.ID]connector.ID {
	t.Helper()
	ids := map[tenant.ID]connector.ID{}
	_, err := s.Change(within(t, time.Minute), connector.Change{Actor: "test", Create: []connector.Tenant{
		{ID: globex, Name: "Globex", Status: connector.StatusReady}, {ID: acme, Name: "Acme", Status: connector.StatusReady},
	}}, func(ctx context.Context, tx connector.Tx) error {
		for _, id := range []tenant.ID{acme, globex} {
			c := sample(hq)
			ids[id] = c.ID
			if err := tx.Tenant(id).PutOrganization(ctx, connector.Organization{ID: hq, Name: "HQ", Active: true}); err != nil {
				return err
			}
			if err := tx.Tenant(id).Insert(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range ids {
		as(t, s, id, `INSERT INTO oauth_grants (tenant_id, connector_id, status) VALUES ($1, $2::uuid, 'active')`, id.String(), c.String())
		as(t, s, id, `INSERT INTO idempotency_keys (tenant_id, key_hash, request_hash, actor, expires_at)
			VALUES ($1, '\x01', '\x02', 'a', now() + interval '1 hour')`, id.String())
		as(t, s, id, `INSERT INTO oauth_states (state_hash, tenant_id, connector_id, issuer, subject, redirect_uri, verifier_sealed, expires_at)
			VALUES (sha256(convert_to($1, 'UTF8')), $1, $2::uuid, 'i', 's', 'r', '\x03', now() + interval '1 hour')`, id.String(), c.String())
	}
	return ids
}

// column reads one text column in a transaction that says app.tenant = id.
func column(t *testing.T, url string, id string, sql string) ([]string, error) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if id != "" {
		if _, err := tx.Exec(ctx, `SELECT set_config('app.tenant', $1, true)`, id); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Row-level security alone, without the WHERE that every statement has.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	store := open(t, owner)
	ids := seed(t, store)
	for id := range ids { // as none would be beside its tenant
		as(t, store, id, `INSERT INTO purged_tenants (tenant_id, actor) VALUES ($1, 'a')`, id.String())
	}
	sidecar := login(t, server, owner, "patchbay_sidecar")
	admin := login(t, server, owner, "patchbay_admin")

	may := map[string][]string{
		sidecar: {"tenants", "organizations", "connectors", "connector_params", "outbox", "oauth_grants"},
		admin:   tenantTables,
		owner:   tenantTables,
	}
	for url, granted := range may {
		for _, table := range tenantTables {
			key := "tenant_id"
			if table == "tenants" {
				key = "id"
			}
			sql := "SELECT " + key + " FROM " + table
			none, err := column(t, url, "", sql)
			if !slices.Contains(granted, table) {
				if stateOf(err) != statePrivilege {
					t.Errorf("%s: a sidecar reads it: %v %v", table, none, err)
				}
				continue
			}
			// The owner is in patchbay_relay, which carries every tenant's outbox rows.
			if table == "outbox" && url == owner {
				continue
			}
			if err != nil || len(none) != 0 {
				t.Errorf("%s without app.tenant: %v %v", table, none, err)
			}
			got, err := column(t, url, "acme", sql)
			if err != nil || len(got) == 0 || slices.ContainsFunc(got, func(s string) bool { return s != "acme" }) {
				t.Errorf("%s as acme: %v %v", table, got, err)
			}
		}
	}

	for what, sql := range map[string]string{
		"update":        `UPDATE connectors SET name = 'x' RETURNING tenant_id`,
		"delete":        `DELETE FROM connector_params RETURNING tenant_id`,
		"cross insert":  `INSERT INTO organizations (tenant_id, id, name, active) VALUES ('globex', 'x', 'x', true) RETURNING tenant_id`,
		"move a tenant": `UPDATE organizations SET tenant_id = 'globex', id = 'moved' RETURNING tenant_id`,
	} {
		got, err := column(t, admin, "acme", sql)
		if slices.Contains(got, "globex") {
			t.Errorf("%s reached globex: %v %v", what, got, err)
		}
		if _, err := column(t, sidecar, "acme", sql); stateOf(err) != statePrivilege {
			t.Errorf("%s by a sidecar: %v", what, err)
		}
	}
	if got, err := column(t, sidecar, "acme", `UPDATE oauth_grants SET epoch = epoch + 1 RETURNING tenant_id`); err != nil || !slices.Equal(got, []string{"acme"}) {
		t.Errorf("the lease: %v %v", got, err)
	}

	reader := open(t, sidecar)
	ctx := within(t, 30*time.Second)
	if err := reader.CheckSchema(ctx); err != nil {
		t.Errorf("schema: %v", err)
	}
	s, err := reader.Tenant(acme).Default(ctx, hq, "storage")
	if err != nil || s.Connector == nil || s.Connector.ID != ids[acme] || s.Grant != connector.GrantActive {
		t.Errorf("a sidecar's answer: %+v %v", s, err)
	}
	if r, err := reader.Revisions(ctx, []tenant.ID{acme, globex, tenant.MustID("none")}); err != nil || len(r.Revision) != 2 {
		t.Errorf("a sidecar's revisions: %+v %v", r, err)
	}
	if list, err := reader.Tenants(ctx, connector.TenantFilter{}); err != nil || len(list) != 0 {
		t.Errorf("a sidecar lists tenants: %v %v", list, err)
	}
	control := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	if list, err := control.Tenants(ctx, connector.TenantFilter{}); err != nil || len(list) != 2 {
		t.Errorf("the control plane lists tenants: %v %v", list, err)
	}
	if n, err := control.Relay(ctx, 100, func(context.Context, []connector.Message) error { return nil }); err != nil || n == 0 {
		t.Errorf("the control plane relays: %d %v", n, err)
	}
}

// The relay's role carries changes and cleans up; it sees no record.
func TestRelayRole(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	store := open(t, owner)
	ids := seed(t, store)
	for id, c := range ids { // what has expired, beside seed's living rows
		as(t, store, id, `INSERT INTO idempotency_keys (tenant_id, key_hash, request_hash, actor, expires_at)
			VALUES ($1, '\x09', '\x02', 'gone', now() - interval '1 second')`, id.String())
		as(t, store, id, `INSERT INTO oauth_states (state_hash, tenant_id, connector_id, issuer, subject, redirect_uri, verifier_sealed, expires_at)
			VALUES (sha256(convert_to($1 || 'gone', 'UTF8')), $1, $2::uuid, 'gone', 's', 'r', '\x03', now() - interval '1 second')`, id.String(), c.String())
		as(t, store, id, `INSERT INTO audit (tenant_id, at, actor, action, target, outcome)
			VALUES ($1, now() - interval '401 days', 'old', 'a', 't', 'ok')`, id.String())
		as(t, store, id, `INSERT INTO audit (tenant_id, at, actor, action, target, outcome)
			VALUES ($1, now() - interval '31 days', 'older than the wall', 'a', 't', 'ok')`, id.String())
	}
	url := login(t, server, owner, "patchbay_relay")
	for _, table := range tenantTables {
		key := "tenant_id"
		if table == "tenants" {
			key = "id"
		}
		got, err := column(t, url, "", "SELECT "+key+" FROM "+table+" ORDER BY 1")
		switch table {
		case "outbox":
			if err != nil || !slices.Contains(got, "acme") || !slices.Contains(got, "globex") {
				t.Errorf("outbox: %v %v", got, err)
			}
		case "idempotency_keys", "oauth_states":
			if err != nil || !slices.Equal(got, []string{"acme", "globex"}) {
				t.Errorf("%s, beside what has expired: %v %v", table, got, err)
			}
			if got, err := column(t, url, "", "DELETE FROM "+table+" RETURNING tenant_id"); err != nil || len(got) != 2 {
				t.Errorf("clean up %s: %v %v", table, got, err)
			}
		case "audit": // below
		default:
			if stateOf(err) != statePrivilege {
				t.Errorf("%s: the relay reads it: %v %v", table, got, err)
			}
		}
	}
	relay := open(t, url)
	ctx := within(t, 30*time.Second)
	if n, err := relay.Relay(ctx, 100, func(context.Context, []connector.Message) error { return nil }); err != nil || n == 0 {
		t.Errorf("relays %d: %v", n, err)
	}
	if n, err := relay.SweepOutbox(ctx, 0); err != nil || n == 0 {
		t.Errorf("sweeps %d: %v", n, err)
	}
	// Of the audit it sees what is old, and removes what is older than it was told,
	// the oldest first, in batches.
	if got, err := column(t, url, "", "SELECT DISTINCT actor FROM audit ORDER BY 1"); err != nil || !slices.Equal(got, []string{"old", "older than the wall"}) {
		t.Errorf("audit: %v %v", got, err)
	}
	if got, err := column(t, url, "", "DELETE FROM audit WHERE at > now() - interval '30 days' RETURNING actor"); err != nil || len(got) != 0 {
		t.Errorf("the relay removes young entries: %v %v", got, err)
	}
	for _, want := range []int64{1, 1, 0} {
		if n, err := relay.SweepAudit(ctx, 400*24*time.Hour, 1); err != nil || n != want {
			t.Errorf("sweeps %d audit entries, want %d: %v", n, want, err)
		}
	}
	for id := range ids {
		left, err := store.Tenant(id).Audit(ctx, connector.AuditFilter{Actor: "older than the wall"})
		if err != nil || len(left) != 1 {
			t.Errorf("%s: %+v, %v", id, left, err)
		}
	}
}

// History and audit only grow, whoever writes them, and a sidecar's only write
// is the lease.
func TestWhatARoleMayNotWrite(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	seed(t, open(t, owner))
	sidecar, admin := login(t, server, owner, "patchbay_sidecar"), login(t, server, owner, "patchbay_admin")
	for _, row := range []struct{ who, url, sql string }{
		{"admin", admin, `UPDATE audit SET actor = 'nobody'`},
		{"admin", admin, `DELETE FROM audit`},
		{"admin", admin, `UPDATE connector_revisions SET actor = 'nobody'`},
		{"admin", admin, `DELETE FROM connector_revisions`},
		{"admin", admin, `DELETE FROM purged_tenants`},
		{"admin", admin, `UPDATE purged_tenants SET tenant_id = 'other'`},
		{"admin", admin, `TRUNCATE outbox`},
		{"sidecar", sidecar, `UPDATE outbox SET sent_at = now()`},
		{"sidecar", sidecar, `INSERT INTO oauth_grants (tenant_id, connector_id, status) VALUES ('acme', gen_random_uuid(), 'active')`},
		{"sidecar", sidecar, `DELETE FROM oauth_grants`},
		{"sidecar", sidecar, `UPDATE oauth_grants SET connector_id = gen_random_uuid()`},
		{"sidecar", sidecar, `UPDATE tenants SET revision = revision + 1`},
		{"sidecar", sidecar, `SELECT actor FROM audit`},
		{"sidecar", sidecar, `SELECT tenant_id FROM purged_tenants`},
		{"sidecar", sidecar, `DELETE FROM connectors`},
		{"sidecar", sidecar, `DELETE FROM tenants`},
	} {
		if _, err := column(t, row.url, "acme", row.sql); stateOf(err) != statePrivilege {
			t.Errorf("%s: %s: %v", row.who, row.sql, err)
		}
	}
}

// A tenant's records are deleted by its purge alone, and once that has begun
// nothing about it changes: neither by this build's code nor by any other's.
func TestOnlyAPurgeDeletes(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	store := open(t, owner)
	ids := seed(t, store)
	admin := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	deletes := []string{`DELETE FROM connectors RETURNING tenant_id`, `DELETE FROM organizations RETURNING tenant_id`,
		`DELETE FROM tenants RETURNING id`}
	sole := login(t, server, owner, "patchbay_admin")
	for _, sql := range deletes {
		if got, err := column(t, sole, "acme", sql); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", sql, got, err)
		}
	}
	_, err := store.Change(within(t, time.Minute), connector.Change{Tenants: []tenant.ID{acme}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(acme).UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusSuspended, time.Now().Add(-time.Hour)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.BeginPurge(within(t, time.Minute), acme); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`UPDATE tenants SET status = 'ready', purge_at = NULL RETURNING id`, `UPDATE tenants SET purge_begun_at = NULL RETURNING id`,
		`UPDATE tenants SET revision = revision + 1 WHERE id = 'acme' RETURNING id`} {
		if got, err := column(t, sole, "acme", sql); stateOf(err) != stateCheckViolation {
			t.Errorf("%s: %v, %v", sql, got, err)
		}
	}
	for _, sql := range deletes[:2] {
		if got, err := column(t, sole, "acme", sql); err != nil || !slices.Equal(got, []string{"acme"}) {
			t.Errorf("%s: %v, %v", sql, got, err)
		}
	}
	// With the rights of a control plane's login, and no more, it comes to its end.
	if _, err := admin.PurgeRecords(within(t, time.Minute), acme, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.PurgeRecords(within(t, time.Minute), acme, 100); err != nil {
		t.Fatal(err)
	}
	for n := 1; n > 0; {
		if n, err = admin.Relay(within(t, time.Minute), 100, func(context.Context, []connector.Message) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.EndPurge(within(t, time.Minute), acme, "test"); err != nil {
		t.Fatal(err)
	}
	if got, err := column(t, sole, "acme", `INSERT INTO tenants (id, name, status, revision) VALUES ('acme', 'x', 'ready', 1) RETURNING id`); stateOf(err) != stateUniqueViolation {
		t.Errorf("a tenant of a purged id: %v, %v", got, err)
	}
	if s, err := admin.Tenant(globex).Default(within(t, time.Minute), hq, "storage"); err != nil || s.Connector == nil || s.Connector.ID != ids[globex] {
		t.Errorf("the other tenant: %+v, %v", s, err)
	}
}

// Every table that exists is forced, so that a migration can't forget one.
func TestEveryTableIsForced(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	got, err := column(t, owner, "", `SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p')
		AND relnamespace = current_schema()::regnamespace AND NOT (relrowsecurity AND relforcerowsecurity)`)
	if err != nil || !slices.Equal(got, []string{versionTable}) {
		t.Errorf("tables without forced row-level security: %v %v", got, err)
	}
}

// The index holds where no Go code clears the old default first.
func TestDefaultIsUniqueInTheDatabase(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	store := open(t, owner)
	for name, org := range map[string]tenant.OrganizationID{"organization": hq, "tenant-wide": {}} {
		id := tenant.MustID(strings.ReplaceAll(name, "-", ""))
		var ids []connector.ID
		_, err := store.Change(within(t, time.Minute), connector.Change{Actor: "test", Create: []connector.Tenant{{ID: id, Name: "T", Status: connector.StatusReady}}},
			func(ctx context.Context, tx connector.Tx) error {
				for range 50 {
					c := sample(org)
					c.Default = false
					ids = append(ids, c.ID)
					if err := tx.Tenant(id).Insert(ctx, c); err != nil {
						return err
					}
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for _, c := range ids {
			wg.Go(func() {
				err := store.read(within(t, time.Minute), scope{tenant: id},
					`UPDATE connectors SET is_default = true WHERE tenant_id = $1 AND id = $2::uuid`,
					[]any{id.String(), c.String()}, func(pgx.Rows) error { return nil })
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !strings.Contains(err.Error(), "already has a default") {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%s: %d defaults", name, won)
		}
		if err := store.read(within(t, time.Minute), scope{tenant: id}, `UPDATE connectors SET active = false WHERE tenant_id = $1 AND is_default`,
			[]any{id.String()}, func(pgx.Rows) error { return nil }); err == nil {
			t.Errorf("%s: an inactive default", name)
		}
	}
}

// A password in the URL must not come back in an error.
func TestURLStaysSecret(t *testing.T) {
	t.Parallel()
	const canary = "canary-3f9a"
	for name, url := range map[string]string{
		"refused":    "postgres://u:" + canary + "@127.0.0.1:1/db?sslmode=disable",
		"bad port":   "postgres://u:" + canary + "@127.0.0.1:port/db",
		"bad escape": "postgres://u:" + canary + "%zz@127.0.0.1/db",
		"bad words":  "host=127.0.0.1 password=" + canary + " port=x sslmode",
	} {
		o := Options{}
		o.URL = secretOf(url)
		s, err := Open(t.Context(), o)
		if err == nil {
			_, err = s.Ping(within(t, 10*time.Second))
			_ = s.Close()
		}
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Migrate(within(t, 10*time.Second), secretOf(url), nil); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: migrate: %v", name, err)
		}
	}
}
