package postgres

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// migrations is goose on a database, to go up and down one by one.
func migrations(t *testing.T, ownerURL string) *goose.Provider {
	t.Helper()
	config, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	sources, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, sources, goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shape lists what a schema is made of, but for the rows in it and the order of
// columns.
const shape = `SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
		FROM information_schema.columns WHERE table_schema = current_schema()
	UNION ALL SELECT 'check ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
	UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = current_schema()
	UNION ALL SELECT 'policy ' || tablename || '.' || policyname || ' ' || roles::text || ' ' || cmd || ' ' || coalesce(qual, '')
		FROM pg_policies WHERE schemaname = current_schema()
	UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
	UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
	UNION ALL SELECT 'table ' || relname || ' ' || relforcerowsecurity::text FROM pg_class
		WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
	ORDER BY 1`

func shapeOf(t *testing.T, ownerURL string) []string {
	t.Helper()
	got, err := column(t, ownerURL, "", shape)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Down takes back what up did, and up can follow with rows in the tables.
func TestMigrationsDownAndUp(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	up := shapeOf(t, owner)
	p, ctx := migrations(t, owner), within(t, time.Minute)
	if _, err := p.DownTo(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	first := shapeOf(t, owner)
	if slices.Equal(first, up) {
		t.Fatal("the first schema looks like the present one; the test would see nothing")
	}
	store := open(t, owner)
	ids := seed(t, store)
	if _, err := p.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if got := shapeOf(t, owner); !slices.Equal(got, up) {
		t.Errorf("up with rows:\n%s\nwithout:\n%s", strings.Join(got, "\n"), strings.Join(up, "\n"))
	}
	// What the first schema can't hold goes with the way down.
	_, err := store.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(acme).Update(ctx, ids[acme], 1, func(c *connector.Connector) error {
			c.Params["region"] = connector.Param{Imported: "eu", Writer: connector.WriterAPI}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if got := shapeOf(t, owner); !slices.Equal(got, first) {
		t.Errorf("down:\n%s\nfirst:\n%s", strings.Join(got, "\n"), strings.Join(first, "\n"))
	}
	s, err := store.Tenant(acme).Default(ctx, hq, "storage")
	if err != nil || s.Connector == nil || len(s.Connector.Params) != 1 || s.Grant != connector.GrantActive {
		t.Errorf("after the way down: %+v %v", s, err)
	}
}

// A build comes before its migration: on the schema of its predecessor a sidecar
// does all its work, and a control plane what its predecessor did.
func TestOnTheSchemaBefore(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	ctx := within(t, time.Minute)
	if _, err := migrations(t, owner).DownTo(ctx, own(t)-1); err != nil {
		t.Fatal(err)
	}
	sidecar := open(t, login(t, server, owner, "patchbay_sidecar"))
	if err := sidecar.CheckSchema(ctx); err != nil {
		t.Errorf("schema: %v", err)
	}
	sidecarWorks(t, sidecar, ids[acme])
	control := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	_, err := control.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
		a := tx.Tenant(acme)
		if err := a.PutGrant(ctx, ids[acme], 20); err != nil {
			return err
		}
		if err := a.Update(ctx, ids[acme], 1, func(c *connector.Connector) error { c.Name = "new"; return nil }); err != nil {
			return err
		}
		return a.DeleteGrant(ctx, ids[acme])
	})
	if err != nil {
		t.Errorf("a change: %v", err)
	}
	if err := control.RecordAudit(ctx, acme, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"}); err != nil {
		t.Errorf("audit: %v", err)
	}
	if list, err := control.Tenant(acme).Audit(ctx, connector.AuditFilter{Limit: 2}); err != nil || len(list) != 2 || list[0].Note != "" {
		t.Errorf("the audit: %+v %v", list, err)
	}
	if _, err := control.DriftedGrants(ctx, 10); err != nil {
		t.Errorf("drift: %v", err)
	}
	if list, err := control.Tenants(ctx, connector.TenantFilter{Query: "ACM"}); err != nil || len(list) != 1 || !list[0].PurgeAt.IsZero() {
		t.Errorf("tenants: %+v %v", list, err)
	}
	if list, err := control.Tenant(acme).List(ctx, connector.Filter{Query: "NEW", Bound: true, Organizations: []tenant.OrganizationID{hq}}); err != nil || len(list) != 1 {
		t.Errorf("a list: %+v %v", list, err)
	}
	if list, err := control.Tenant(acme).Organizations(ctx, connector.OrganizationFilter{}); err != nil || len(list) != 1 {
		t.Errorf("organizations: %+v %v", list, err)
	}
}

// A migration comes to processes at work: each statement waits or goes on, and
// none is refused.
func TestMigrationAtWork(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	p, ctx := migrations(t, owner), within(t, time.Minute)
	control := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	sidecar := open(t, login(t, server, owner, "patchbay_sidecar"))
	for range 5 {
		if _, err := p.DownTo(ctx, own(t)-1); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var all sync.WaitGroup
		var calls atomic.Int64
		for name, call := range map[string]func() error{
			"default":  func() error { _, err := sidecar.Tenant(acme).Default(ctx, hq, "storage"); return err },
			"defaults": func() error { _, err := sidecar.Tenant(globex).Defaults(ctx, hq); return err },
			"acquire":  func() error { _, _, err := sidecar.AcquireGrant(ctx, acme, ids[acme], "one", time.Hour); return err },
			"settle": func() error {
				_, err := sidecar.SettleGrant(ctx, acme, ids[acme], 1, connector.GrantActive)
				return err
			},
			"list":  func() error { _, err := control.Tenant(acme).List(ctx, connector.Filter{}); return err },
			"drift": func() error { _, err := control.DriftedGrants(ctx, 10); return err },
			"audit": func() error {
				return control.RecordAudit(ctx, globex, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"})
			},
			"test": func() error { return control.RecordTest(ctx, globex, ids[globex], 1, connector.StateConnected, nil) },
			"change": func() error {
				_, err := control.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{acme, globex}}, func(ctx context.Context, tx connector.Tx) error {
					if err := tx.Tenant(globex).Audit(ctx, connector.AuditEntry{Action: "a", Outcome: "ok"}); err != nil {
						return err
					}
					if err := tx.Tenant(acme).Insert(ctx, sample(tenant.MustOrganizationID(strings.ToLower(connector.NewID().String())))); err != nil {
						return err
					}
					return tx.Tenant(globex).PutGrant(ctx, ids[globex], 1)
				})
				return err
			},
		} {
			all.Go(func() {
				for {
					if err := call(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					calls.Add(1)
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		eventually(t, "everybody is at work", func() bool { return calls.Load() > 50 })
		if _, err := p.Up(ctx); err != nil {
			t.Errorf("up: %v", err)
		}
		before := calls.Load()
		eventually(t, "everybody is at work again", func() bool { return calls.Load() > before+50 })
		close(stop)
		all.Wait()
	}
}

// sidecarWorks runs what a sidecar may do with the grant of acme's connector.
func sidecarWorks(t *testing.T, s *Store, id connector.ID) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	row, acquired, err := s.AcquireGrant(ctx, acme, id, "one", time.Hour)
	if err != nil || !acquired || row.Owner != "one" {
		t.Errorf("acquire: %v %+v %v", acquired, row, err)
	}
	if held, err := s.RenewGrant(ctx, acme, id, "one", row.Epoch, time.Hour); err != nil || !held {
		t.Errorf("renew: %v %v", held, err)
	}
	if recorded, err := s.SettleGrant(ctx, acme, id, 9, connector.GrantNeedsReauthorization); err != nil || !recorded {
		t.Errorf("settle: %v %v", recorded, err)
	}
	if err := s.ReleaseGrant(ctx, acme, id, "one", row.Epoch); err != nil {
		t.Errorf("release: %v", err)
	}
	if row, err := s.Grant(ctx, acme, id); err != nil || row.Version != 9 || row.Owner != "" {
		t.Errorf("grant: %+v %v", row, err)
	}
	if s, err := s.Tenant(acme).Default(ctx, hq, "storage"); err != nil || s.GrantVersion != 9 || s.Grant != connector.GrantNeedsReauthorization {
		t.Errorf("default: %+v %v", s, err)
	}
}

// A sidecar keeps a grant alive, and that is all: it neither gives nor takes one,
// nor sees another tenant's.
func TestGrantsBySidecar(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	url := login(t, server, owner, "patchbay_sidecar")
	s, ctx := open(t, url), within(t, 30*time.Second)
	sidecarWorks(t, s, ids[acme])
	for name, err := range map[string]error{
		"a change": second(s.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(context.Context, connector.Tx) error { return nil })),
		"audit":    s.RecordAudit(ctx, acme, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"}),
		"a test":   s.RecordTest(ctx, acme, ids[acme], 1, connector.StateError, nil),
	} {
		if stateOf(err) != statePrivilege {
			t.Errorf("%s by a sidecar: %v", name, err)
		}
	}
	for _, sql := range []string{
		`UPDATE oauth_grants SET tenant_id = 'acme'`, `UPDATE oauth_grants SET connector_id = connector_id`,
		`DELETE FROM oauth_grants`, `TRUNCATE oauth_grants`,
		`INSERT INTO oauth_grants (tenant_id, connector_id, status) SELECT tenant_id, id, 'active' FROM connectors`,
		`UPDATE connectors SET state = 'untested'`,
	} {
		if _, err := column(t, url, "acme", sql); stateOf(err) != statePrivilege {
			t.Errorf("%s by a sidecar: %v", sql, err)
		}
	}
	// As is any row that it may not have: its own column rights don't lead there.
	if got, err := column(t, url, "acme", `UPDATE oauth_grants SET grant_version = 50 WHERE tenant_id = 'globex' RETURNING tenant_id`); err != nil || len(got) != 0 {
		t.Errorf("another tenant's: %v %v", got, err)
	}
	if list, err := s.DriftedGrants(ctx, 10); err != nil || len(list) != 0 {
		t.Errorf("a sidecar sees drift: %+v %v", list, err)
	}
	admin := login(t, server, owner, "patchbay_admin", "patchbay_relay")
	list, err := open(t, admin).DriftedGrants(ctx, 10)
	if err != nil || len(list) != 1 || list[0].Connector != ids[acme] || list[0].Tenant != acme || list[0].Version != 9 {
		t.Errorf("the control plane sees %+v %v", list, err)
	}
	// All tenants' grants show only to who may, and only where it says so.
	for _, table := range []string{"oauth_grants", "connectors"} {
		for _, row := range []struct {
			who, url, scope string
			want            int
		}{{"sidecar", url, "grants", 0}, {"admin", admin, "grants", 2}, {"admin", admin, "tenants", 0}, {"admin", admin, "", 0}} {
			got, err := column(t, row.url, "", `SELECT x.tenant_id FROM set_config('app.scope', '`+row.scope+`', true), `+table+` x`)
			if err != nil || len(got) != row.want {
				t.Errorf("%s by %s with scope %q: %v %v", table, row.who, row.scope, got, err)
			}
		}
		got, err := column(t, admin, "", `WITH told AS MATERIALIZED (SELECT set_config('app.scope', 'grants', true))
			UPDATE `+table+` SET updated_at = now() FROM told RETURNING `+table+`.tenant_id`)
		if err != nil || len(got) != 0 {
			t.Errorf("%s of all tenants can be written: %v %v", table, got, err)
		}
	}
}

func second(_ map[tenant.ID]int64, err error) error { return err }

// A lease lives by the database's clock: a process whose own is off neither takes
// one early nor holds one for longer.
func TestLeaseByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	ids := seed(t, open(t, owner))
	for i, off := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		store, err := Open(t.Context(), Options{URL: secretOf(owner), Now: func() time.Time { return time.Now().Add(off) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		ctx := within(t, 30*time.Second)
		row, acquired, err := store.AcquireGrant(ctx, acme, ids[acme], "one", time.Minute)
		if err != nil || !acquired || row.Until.Sub(row.At) > time.Minute || time.Since(row.At).Abs() > time.Minute {
			t.Errorf("off by %v: %v %+v %v", off, acquired, row, err)
		}
		if _, acquired, err := store.AcquireGrant(ctx, acme, ids[acme], "two", time.Minute); err != nil || acquired {
			t.Errorf("off by %v: taken: %v %v", off, acquired, err)
		}
		if err := store.ReleaseGrant(ctx, acme, ids[acme], "one", row.Epoch); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// A caller that waits for the row decides by the clock after its wait, and is
// told the row that it lost to.
func TestLeaseAfterAWait(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	store := open(t, owner)
	ids := seed(t, store)
	ctx := within(t, 30*time.Second)
	for name, row := range map[string]struct {
		lease string
		taken bool
	}{
		"to a live lease":                    {"clock_timestamp() + interval '1 hour'", false},
		"to one that ended during the wait":  {"clock_timestamp() + interval '50 milliseconds'", true},
		"to one that was over in the moment": {"clock_timestamp()", true},
	} {
		conn, err := pgx.Connect(ctx, owner)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{`SELECT set_config('app.tenant', 'acme', true)`,
			`UPDATE oauth_grants SET owner = 'holder', epoch = epoch + 1, until = ` + row.lease} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				t.Fatal(err)
			}
		}
		type answer struct {
			connector.GrantRow
			acquired bool
			err      error
		}
		waiter := make(chan answer, 1)
		go func() {
			got, acquired, err := store.AcquireGrant(ctx, acme, ids[acme], "waiter", time.Minute)
			waiter <- answer{got, acquired, err}
		}()
		eventually(t, "the waiter waits, and the brief lease is over", func() bool {
			if len(waiter) > 0 {
				t.Fatalf("%s: no wait: %+v", name, <-waiter)
			}
			got, err := column(t, owner, "", `SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '100 milliseconds'`)
			return err == nil && len(got) == 1
		})
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		got := <-waiter
		who := map[bool]string{true: "waiter", false: "holder"}[row.taken]
		if got.err != nil || got.acquired != row.taken || got.Owner != who {
			t.Errorf("lost %s: acquired %v, %+v, %v", name, got.acquired, got.GrantRow, got.err)
		}
		// Free again: nobody waits for a lease that is seen to be live.
		as(t, store, acme, `UPDATE oauth_grants SET owner = NULL, until = NULL WHERE tenant_id = $1`, "acme")
	}
}

// The control plane asks all the time. With a million connectors, nearly none of
// which has drifted, it must not read a table.
func TestDriftPlan(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	fill(t, server, owner)
	store := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	var plan string
	err := store.read(within(t, time.Minute), scope{across: acrossGrants}, `EXPLAIN (FORMAT JSON) `+driftedSQL, []any{int64(100)},
		func(rows pgx.Rows) error { return rows.Scan(&plan) })
	if err != nil {
		t.Fatal(err)
	}
	nodes := nodesOf(t, plan)
	for _, want := range []string{"oauth_grants_refused", "connectors_waiting"} {
		if !slices.ContainsFunc(nodes, func(n string) bool { return strings.HasSuffix(n, want) }) {
			t.Errorf("%s is not used: %v", want, nodes)
		}
	}
	if slices.ContainsFunc(nodes, func(n string) bool { return strings.Contains(n, "Seq Scan") || strings.Contains(n, "Sort") }) {
		t.Errorf("%v", nodes)
	}
}

// Behind a transaction pooler the lease holds all the same.
func TestLeaseThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	store := open(t, testenv.PgBouncer(t, server, 2).Through(t, owner))
	var holders, max atomic.Int64
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two", "three", "four"} {
		wg.Go(func() {
			for done := 0; done < 10; {
				row, acquired, err := store.AcquireGrant(within(t, 30*time.Second), acme, ids[acme], name, time.Minute)
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				if !acquired {
					continue
				}
				if n := holders.Add(1); n > max.Load() {
					max.Store(n)
				}
				held, err := store.RenewGrant(within(t, 30*time.Second), acme, ids[acme], name, row.Epoch, time.Minute)
				if err != nil || !held {
					t.Errorf("renew: %v %v", held, err)
				}
				holders.Add(-1)
				if err := store.ReleaseGrant(within(t, 30*time.Second), acme, ids[acme], name, row.Epoch); err != nil {
					t.Errorf("release: %v", err)
				}
				done++
			}
		})
	}
	wg.Wait()
	if max.Load() != 1 {
		t.Errorf("%d held the lease at once", max.Load())
	}
	if row, err := store.Grant(within(t, 30*time.Second), globex, ids[acme]); err != nil || row.Status != connector.GrantNone {
		t.Errorf("another tenant sees %+v %v", row, err)
	}
}

// On a standby the lease store is away, and says so: a kind whose issuer doesn't
// rotate refreshes without it.
func TestLeaseOnStandby(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	if err := server.Exec(`ALTER DATABASE ` + owner[strings.LastIndex(owner, "/")+1:strings.Index(owner, "?")] + ` SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	s, ctx := open(t, owner), within(t, 30*time.Second)
	for name, call := range map[string]func() error{
		"acquire": func() error { _, _, err := s.AcquireGrant(ctx, acme, ids[acme], "one", time.Minute); return err },
		"renew":   func() error { _, err := s.RenewGrant(ctx, acme, ids[acme], "one", 1, time.Minute); return err },
		"release": func() error { return s.ReleaseGrant(ctx, acme, ids[acme], "one", 1) },
		"settle":  func() error { _, err := s.SettleGrant(ctx, acme, ids[acme], 9, connector.GrantActive); return err },
		"audit": func() error {
			return s.RecordAudit(ctx, acme, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"})
		},
	} {
		if err := call(); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%s on a standby: %v", name, err)
		}
	}
	if row, err := s.Grant(ctx, acme, ids[acme]); err != nil || row.Status != connector.GrantActive {
		t.Errorf("a reading on a standby: %+v %v", row, err)
	}
}
