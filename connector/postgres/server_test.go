package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Resolution must not grow with the number of connectors: no plan may scan a
// table or sort.
func TestResolvePlans(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	store := open(t, owner)
	fill(t, server, owner)
	ctx := within(t, time.Minute)
	var id string
	if got, err := column(t, owner, "t7", `SELECT id::text FROM connectors WHERE organization_id = 'hq' LIMIT 1`); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	} else {
		id = got[0]
	}
	for name, q := range map[string]struct {
		sql  string
		args []any
	}{
		"default":   {defaultSQL, []any{"t7", "hq", "storage"}},
		"inherited": {defaultSQL, []any{"t7", "lab", "storage"}},
		"defaults":  {defaultsSQL, []any{"t7", "hq"}},
		"connector": {connectorSQL, []any{"t7", "hq", id}},
	} {
		var plan string
		err := store.read(ctx, scope{tenant: tenant.MustID("t7")}, `EXPLAIN (FORMAT JSON) `+q.sql, q.args,
			func(rows pgx.Rows) error { return rows.Scan(&plan) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes := nodesOf(t, plan)
		for _, n := range nodes {
			if strings.Contains(n, "Seq Scan") || strings.Contains(n, "Sort") || strings.Contains(n, "Bitmap") && strings.Contains(n, "tenants") {
				t.Errorf("%s: %v", name, nodes)
				break
			}
		}
		rows := 0
		if err := store.read(ctx, scope{tenant: tenant.MustID("t7")}, q.sql, q.args, func(rs pgx.Rows) error {
			s, err := scanSnapshot(rs)
			if s.Connector != nil {
				rows++
			}
			return err
		}); err != nil || rows == 0 {
			t.Errorf("%s finds %d connectors: %v", name, rows, err)
		}
	}
}

// A page of a list costs what it shows, also in a large tenant: no plan scans a
// table, and only a filter that leaves little is sorted.
func TestListPlans(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	fill(t, server, owner)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	conn, err := pgx.Connect(ctx, server.URL("postgres", strings.TrimPrefix(u.Path, "/")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`INSERT INTO organizations (tenant_id, id, name, active) SELECT 't7', 'o' || n, 'O', true FROM generate_series(1, 500) n`,
		`INSERT INTO connectors (tenant_id, id, name, category, kind, schema_version, organization_id, state, active, is_default, version)
			SELECT 't7', gen_random_uuid(), 'C', 'email', 's3', 1, 'o' || (1 + n % 500), 'untested', true, false, 1 FROM generate_series(0, 999) n`,
		`INSERT INTO audit (tenant_id, actor, action, target, outcome, at)
			SELECT 't' || (1 + n % 500), 'a', 'connector.update', 'x' || n % 700, 'ok', now() - n * interval '20 minutes' FROM generate_series(1, 40000) n`,
		`INSERT INTO idempotency_keys (tenant_id, key_hash, request_hash, actor, expires_at)
			SELECT 't' || (1 + n % 500), sha256(n::text::bytea), '\x02', 'a', now() + n * interval '1 second' FROM generate_series(1, 5000) n`,
		`ANALYZE`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	store := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	id, err := connector.ParseID("00000000-0000-7000-8000-000000000000")
	if err != nil {
		t.Fatal(err)
	}
	no := false
	type statement struct {
		sql  string
		args []any
	}
	of := func(sql string, args []any, err error) statement {
		if err != nil {
			t.Fatal(err)
		}
		return statement{sql, append([]any{"t7"}, args...)}
	}
	trail := func(f connector.AuditFilter) statement {
		sql, args := trailSQL(f)
		return of(sql, args, nil)
	}
	some := []tenant.OrganizationID{tenant.MustOrganizationID("o1"), hq}
	tenantsPage, tenantsArgs, err := tenantsSQL(connector.TenantFilter{Query: "7", After: tenant.MustID("t3"), Limit: 51})
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]statement{
		"connectors":         of(listSQL(connector.Filter{Limit: 51})),
		"searched":           of(listSQL(connector.Filter{Query: "mail", After: id, Limit: 51})),
		"narrowed":           of(listSQL(connector.Filter{Category: "email", State: "error", Default: &no, Deleted: true, Limit: 51})),
		"bound":              of(listSQL(connector.Filter{Bound: true, Organizations: some, Limit: 51})),
		"organizations":      of(organizationsSQL(connector.OrganizationFilter{Query: "x", Limit: 51})),
		"one organization":   of(organizationsSQL(connector.OrganizationFilter{Bound: true, Organizations: some[:1]})),
		"audit":              trail(connector.AuditFilter{Limit: 51}),
		"audit of a target":  trail(connector.AuditFilter{Target: "x6", Before: 1 << 40, Limit: 51}),
		"audit by action":    trail(connector.AuditFilter{Action: "connector.*", Limit: 51}),
		"audit that's bound": trail(connector.AuditFilter{Bound: true, Organizations: some, Limit: 51}),
	} {
		var plan string
		err := store.read(ctx, scope{tenant: tenant.MustID("t7")}, `EXPLAIN (FORMAT JSON) `+q.sql, q.args, func(rows pgx.Rows) error { return rows.Scan(&plan) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes := nodesOf(t, plan)
		whole := slices.Contains([]string{"connectors", "organizations", "audit", "audit of a target", "audit by action"}, name)
		if slices.ContainsFunc(nodes, func(n string) bool { return strings.Contains(n, "Seq Scan") || whole && strings.Contains(n, "Sort") }) {
			t.Errorf("%s: %v", name, nodes)
		}
	}
	for name, q := range map[string]struct {
		statement
		across string
	}{
		"tenants":        {statement{tenantsPage, tenantsArgs}, acrossTenants},
		"due":            {statement{dueSQL, []any{"", int64(100)}}, acrossTenants},
		"sweep audit":    {statement{sweepAuditSQL, []any{(400 * 24 * time.Hour).Microseconds(), int64(1000)}}, ""},
		"sweep requests": {statement{sweepRequestsSQL, nil}, ""},
	} {
		var plan string
		err := store.read(ctx, scope{across: q.across}, `EXPLAIN (FORMAT JSON) `+q.sql, q.args, func(rows pgx.Rows) error { return rows.Scan(&plan) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes := nodesOf(t, plan)
		if slices.ContainsFunc(nodes, func(n string) bool { return strings.Contains(n, "Seq Scan") }) {
			t.Errorf("%s: %v", name, nodes)
		}
	}
}

// A day's outbox may hold a million rows; a relay asks four times a second.
func TestOutboxPlans(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	fill(t, server, owner)
	store := open(t, login(t, server, owner, "patchbay_admin", "patchbay_relay"))
	ctx := within(t, time.Minute)
	for name, q := range map[string]struct {
		sql  string
		args []any
	}{
		"relay":     {relaySQL, []any{int64(100)}},
		"unsent":    {unsentSQL, []any{int64(250_000)}},
		"last sent": {lastSentSQL, nil},
		"sent":      {sentSQL, []any{int64(0), int64(600_000_000), int64(100)}},
		"sweep":     {sweepSQL, []any{int64(86_400_000_000)}},
	} {
		var plan string
		err := store.read(ctx, scope{}, `EXPLAIN (FORMAT JSON) `+q.sql, q.args, func(rows pgx.Rows) error { return rows.Scan(&plan) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes := nodesOf(t, plan)
		if slices.ContainsFunc(nodes, func(n string) bool { return strings.Contains(n, "Seq Scan") }) {
			t.Errorf("%s: %v", name, nodes)
		}
	}
}

// The one statement that validates every tenant a sidecar holds: its list is
// taken apart once, not once for each row (10,000 tenants took three seconds).
func TestRevisionsPlan(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	fill(t, server, owner)
	var ids []tenant.ID
	var names []string
	for i := range 300 {
		ids = append(ids, tenant.MustID(fmt.Sprintf("t%d", i+1)))
		names = append(names, ids[i].String())
	}
	store := open(t, login(t, server, owner, "patchbay_sidecar"))
	var plan string
	err := store.read(within(t, time.Minute), scope{tenants: ids}, `EXPLAIN (ANALYZE, FORMAT JSON) `+revisionsSQL, []any{names},
		func(rows pgx.Rows) error { return rows.Scan(&plan) })
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Type  string  `json:"Node Type"`
		Rows  float64 `json:"Actual Rows"`
		Loops float64 `json:"Actual Loops"`
		Plans []node
	}
	var roots []struct{ Plan node }
	if err := json.Unmarshal([]byte(plan), &roots); err != nil {
		t.Fatal(err)
	}
	taken := 0
	var walk func(node)
	walk = func(n node) {
		if n.Type == "ProjectSet" && n.Loops == 1 && n.Rows == 300 {
			taken++
		}
		for _, child := range n.Plans {
			walk(child)
		}
	}
	walk(roots[0].Plan)
	if taken != 1 || roots[0].Plan.Rows != 300 {
		t.Errorf("the list is taken apart %d times by a plan of its own, %v rows:\n%.3000s", taken, roots[0].Plan.Rows, plan)
	}
}

// fill writes 500 tenants with 20 connectors each, past row-level security.
func fill(t *testing.T, s *testenv.PostgresServer, ownerURL string) {
	t.Helper()
	u, err := url.Parse(ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	conn, err := pgx.Connect(ctx, s.URL("postgres", strings.TrimPrefix(u.Path, "/")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`INSERT INTO tenants (id, name, status, revision) SELECT 't' || n, 'T', 'ready', 1 FROM generate_series(1, 500) n`,
		`INSERT INTO organizations (tenant_id, id, name, active)
			SELECT t.id, o, o, true FROM tenants t, unnest(ARRAY['hq', 'lab', 'x', 'y', 'z']) o`,
		`INSERT INTO connectors (tenant_id, id, name, category, kind, schema_version, organization_id, state, active, is_default, version)
			SELECT t.id, gen_random_uuid(), 'C', (ARRAY['storage', 'email'])[1 + n % 2], 's3', 1,
				CASE WHEN n < 2 THEN NULL WHEN n % 4 < 2 THEN 'hq' ELSE 'x' END, 'untested', true, n < 6, 1
			FROM tenants t, generate_series(0, 19) n`,
		`INSERT INTO connector_params (tenant_id, connector_id, name, value, writer, updated_at)
			SELECT c.tenant_id, c.id, p, '"v"', 'api', now() FROM connectors c, unnest(ARRAY['bucket', 'region', 'prefix']) p`,
		`INSERT INTO oauth_grants (tenant_id, connector_id, status) SELECT c.tenant_id, c.id, 'active' FROM connectors c`,
		`INSERT INTO outbox (tenant_id, revision, all_organizations, status, at, sent_at)
			SELECT 't' || (1 + n % 500), n, true, false, now() - n * interval '2 seconds', now() - n * interval '2 seconds'
			FROM generate_series(1, 40000) n`,
		`ANALYZE`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// nodesOf lists a plan's nodes with what they scan.
func nodesOf(t *testing.T, plan string) []string {
	t.Helper()
	type node struct {
		Type  string `json:"Node Type"`
		Table string `json:"Relation Name"`
		Index string `json:"Index Name"`
		Plans []node
	}
	var roots []struct{ Plan node }
	if err := json.Unmarshal([]byte(plan), &roots); err != nil || len(roots) == 0 {
		t.Fatalf("plan: %v", err)
	}
	var list []string
	var walk func(node)
	walk = func(n node) {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", n.Type, n.Table, n.Index)))
		for _, child := range n.Plans {
			walk(child)
		}
	}
	walk(roots[0].Plan)
	return list
}

// A server that dies and comes back needs nobody's help, and what broke is
// called an outage.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	store := open(t, newDatabase(t, server))
	ids := seed(t, store)
	answers := func() error {
		s, err := store.Tenant(acme).Default(within(t, 10*time.Second), hq, "storage")
		if err == nil && (s.Connector == nil || s.Connector.ID != ids[acme]) {
			err = errors.New("another connector answers")
		}
		return err
	}
	write := func() error {
		_, err := store.Change(within(t, 10*time.Second), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}},
			func(context.Context, connector.Tx) error { return nil })
		return err
	}
	for round := range 2 {
		if err := errors.Join(answers(), write()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		server.Kill()
		for name, call := range map[string]func() error{"read": answers, "write": write} {
			if err := call(); fault.CodeOf(err) != fault.Unavailable {
				t.Errorf("round %d: %s of a dead server: %v", round, name, err)
			}
		}
		server.Start(t)
	}
	// The first call after the return works: the dead pooled connections are
	// not the caller's problem.
	if err := errors.Join(answers(), write()); err != nil {
		t.Error(err)
	}
	// A restart between two calls is not seen at all.
	server.Kill()
	server.Start(t)
	if err := answers(); err != nil {
		t.Errorf("first read after a restart: %v", err)
	}
	server.Kill()
	server.Start(t)
	if err := write(); err != nil {
		t.Errorf("first write after a restart: %v", err)
	}
}

// A server that hangs costs a caller its deadline and no more.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	store := open(t, newDatabase(t, server))
	seed(t, store)
	server.Pause()
	start := time.Now()
	_, err := store.Tenant(acme).Default(within(t, 200*time.Millisecond), hq, "storage")
	server.Resume()
	if fault.CodeOf(err) != fault.DeadlineExceeded || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if _, err := store.Tenant(acme).Default(within(t, 10*time.Second), hq, "storage"); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// A write that waits for a lock ends with its caller, in the server too.
func TestStatementEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	store := open(t, owner)
	seed(t, store)
	_, err := store.Change(within(t, time.Minute), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}},
		func(context.Context, connector.Tx) error {
			_, err := store.Change(within(t, 100*time.Millisecond), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}},
				func(context.Context, connector.Tx) error { return nil })
			if fault.CodeOf(err) != fault.DeadlineExceeded {
				t.Errorf("waiting for a lock: %v", err)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		busy, err := column(t, owner, "", `SELECT query::text FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		if err == nil && len(busy) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still waiting: %v %v", busy, err)
		}
	}
}

// Behind a transaction pooler two tenants' calls share few server connections.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	ids := seed(t, open(t, owner))
	store := open(t, testenv.PgBouncer(t, server, 2).Through(t, owner))
	var wg sync.WaitGroup
	for id, want := range ids {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					s, err := store.Tenant(id).Default(within(t, 30*time.Second), hq, "storage")
					if err != nil || s.Connector == nil || s.Connector.ID != want {
						t.Errorf("%s: %+v %v", id, s.Connector, err)
						return
					}
					_, err = store.Change(within(t, 30*time.Second), connector.Change{Actor: "test", Tenants: []tenant.ID{id}},
						func(ctx context.Context, tx connector.Tx) error { return tx.Tenant(id).LockConnector(ctx, want) })
					if err != nil {
						t.Errorf("%s: change: %v", id, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	// Nothing of a tenant stays on a shared connection.
	err := store.read(within(t, 10*time.Second), scope{}, `SELECT id FROM connectors`, nil, func(pgx.Rows) error {
		return errors.New("a row without a tenant")
	})
	if err != nil {
		t.Error(err)
	}
}
