package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// connectorsPerTenant of the databases that scale compares.
const connectorsPerTenant = 10

// batch is how many tenants one reading of revisions asks for.
const batch = 100

// library is one seeded database with what reads it.
type library struct {
	connectors int
	store      *postgres.Store // a sidecar's
	explained  *postgres.Store // ditto, but the server tells the plan of each statement
	plans      *wire
}

func (l *library) tenants() int { return l.connectors / connectorsPerTenant }

// lookups are the statements of a data plane, each on a random tenant.
var lookups = []struct {
	name string
	many bool // reads as many rows as it is asked for, so that sizes can't be compared
	do   func(ctx context.Context, s *postgres.Store, tenants int) error
}{
	{"a slot's default", false, func(ctx context.Context, s *postgres.Store, tenants int) error {
		got, err := s.Tenant(tenant.MustID(tenantName(rand.IntN(tenants)))).Default(ctx, tenant.MustOrganizationID(organization), "storage")
		return found(got, err)
	}},
	{"all defaults", false, func(ctx context.Context, s *postgres.Store, tenants int) error {
		got, err := s.Tenant(tenant.MustID(tenantName(rand.IntN(tenants)))).Defaults(ctx, tenant.MustOrganizationID(organization))
		if err != nil {
			return err
		}
		return found(got[0], nil)
	}},
	{"a connector by id", false, func(ctx context.Context, s *postgres.Store, tenants int) error {
		i := rand.IntN(tenants)
		id, err := connector.ParseID(connectorID(i*connectorsPerTenant + rand.IntN(connectorsPerTenant)))
		if err != nil {
			return err
		}
		got, err := s.Tenant(tenant.MustID(tenantName(i))).Connector(ctx, tenant.MustOrganizationID(organization), id)
		return found(got, err)
	}},
	{fmt.Sprintf("revisions of %d tenants", batch), true, func(ctx context.Context, s *postgres.Store, tenants int) error {
		ids := make([]tenant.ID, batch)
		for i := range ids {
			ids[i] = tenant.MustID(tenantName(rand.IntN(tenants)))
		}
		_, err := s.Revisions(ctx, ids)
		return err
	}},
}

func found(s connector.Snapshot, err error) error {
	if err == nil && s.Connector == nil {
		return fmt.Errorf("a seeded connector is not found")
	}
	return err
}

// scale holds lookups in a big database against those in a hundredth of it.
func (w *world) scale(r *report, o options) {
	pg := testenv.NewPostgres(w, "shared_buffers=256MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "maintenance_work_mem=256MB")
	small, big := w.newLibrary(pg, o.connectors/100), w.newLibrary(pg, o.connectors)
	var rows [][]string
	scansOK, ratiosOK := true, true
	var summary []string
	for _, look := range lookups {
		const rounds, each = 20, 100
		one := func(l *library) float64 {
			began := time.Now()
			for range each {
				w.must(look.do(w.ctx, l.store, l.tenants()))
			}
			return float64(time.Since(began)) / float64(time.Microsecond) / each
		}
		one(small)
		one(big)
		var a, b, ratio []float64
		for range rounds {
			x, y := one(small), one(big)
			a, b, ratio = append(a, x), append(b, y), append(ratio, y/x)
		}
		ps, pb := w.plansOf(small, look.do), w.plansOf(big, look.do)
		buffers := pb.buffers / ps.buffers
		bad := pb.unwanted()
		scansOK = scansOK && len(bad) == 0
		if !look.many {
			ratiosOK = ratiosOK && buffers <= 2 && spreadOf(ratio).median <= 2
			summary = append(summary, fmt.Sprintf("%s: time x %.2f, buffers x %.2f", look.name, spreadOf(ratio).median, buffers))
		}
		rows = append(rows, []string{look.name, fmt.Sprintf("%.0f", spreadOf(a).median), fmt.Sprintf("%.0f", spreadOf(b).median), spreadOf(ratio).format("%.2f"),
			fmt.Sprintf("%.1f", ps.buffers), fmt.Sprintf("%.1f", pb.buffers), fmt.Sprintf("%.2f", buffers), strings.Join(pb.nodes(), ", ")})
	}
	what := fmt.Sprintf("%d connectors of %d tenants in Postgres", big.connectors, big.tenants())
	r.find(scansOK, what+", plans", "index scans only, no sort", "%s", map[bool]string{true: "index scans only", false: "see below"}[scansOK])
	r.find(ratiosOK, fmt.Sprintf("%s, to %d", what, small.connectors), "time and buffers <= 2 x", "%s", strings.Join(summary, "; "))
	r.table("Postgres at scale", fmt.Sprintf(`
Two databases of one server (shared_buffers 256 MB), %d and %d connectors, ten to a tenant, with the product's schema, a
sidecar's login and row-level security. Times: the store's own reads on random tenants, blocks of 100 in turns, 20 rounds; medians
in microseconds, ratio min / median / max of neighbours. Plans: of the very statements that the store sends, as auto_explain tells
them to that connection (ANALYZE, BUFFERS); buffers are hit + read, mean of 50. The reading of revisions is no lookup: it reads a
row per tenant asked for, which in the small database are most of a few pages; its plan counts, its ratios are for information.`, small.connectors, big.connectors),
		[]string{"read", "small, us", "big, us", "time ratio", "small, buffers", "big, buffers", "ratio", "nodes of the big one's plans"}, rows)
}

func (w *world) newLibrary(pg *testenv.PostgresServer, connectors int) *library {
	l := &library{connectors: connectors, plans: &wire{}}
	d := w.newDatabase(pg)
	w.seed(d.superuser, l.tenants(), connectorsPerTenant)
	open := func(url string) *postgres.Store {
		s, err := postgres.Open(w.ctx, postgres.Options{URL: secret.New(url), MaxConns: 1})
		w.must(err)
		w.Cleanup(func() { _ = s.Close() }) // the process ends
		return s
	}
	l.store = open(d.sidecar)
	login := d.name + "_explained"
	w.must(pg.Exec(
		"CREATE ROLE "+login+" LOGIN IN ROLE patchbay_sidecar",
		"ALTER ROLE "+login+" SET session_preload_libraries = 'auto_explain'",
		"ALTER ROLE "+login+" SET auto_explain.log_min_duration = 0",
		"ALTER ROLE "+login+" SET auto_explain.log_analyze = on",
		"ALTER ROLE "+login+" SET auto_explain.log_buffers = on",
		"ALTER ROLE "+login+" SET auto_explain.log_timing = off",
		"ALTER ROLE "+login+" SET auto_explain.log_format = json",
		"ALTER ROLE "+login+" SET auto_explain.log_level = notice"))
	w.Cleanup(func() { _ = pg.Exec("DROP ROLE IF EXISTS " + login) }) // its server ends anyway
	u, err := url.Parse(pg.URL(login, d.name))
	w.must(err)
	u.Host = w.tap(u.Host, plain, l.plans.postgresNotices)
	l.explained = open(u.String())
	return l
}

// plans sums up the plans of one kind of read.
type plans struct {
	buffers float64         // mean
	kinds   map[string]bool // node types, with the index or relation
}

// plan is what is read of a node of EXPLAIN (FORMAT JSON).
type plan struct {
	Type     string `json:"Node Type"`
	Index    string `json:"Index Name"`
	Relation string `json:"Relation Name"`
	Hit      int    `json:"Shared Hit Blocks"`
	Read     int    `json:"Shared Read Blocks"`
	Plans    []plan
}

func (p plan) walk(f func(plan)) {
	f(p)
	for _, child := range p.Plans {
		child.walk(f)
	}
}

// plansOf does a read fifty times and gathers the plans that the server told.
func (w *world) plansOf(l *library, do func(context.Context, *postgres.Store, int) error) plans {
	const times = 50
	w.must(do(w.ctx, l.explained, l.tenants()))
	l.plans.takeNotices()
	for range times {
		w.must(do(w.ctx, l.explained, l.tenants()))
	}
	out := plans{kinds: make(map[string]bool)}
	n := 0
	for _, text := range l.plans.takeNotices() {
		_, text, ok := strings.Cut(text, "plan:\n")
		if !ok {
			continue
		}
		var told struct {
			Query string `json:"Query Text"`
			Plan  plan
		}
		w.must(json.Unmarshal([]byte(text), &told))
		if !strings.Contains(told.Query, "FROM tenants t") {
			continue // set_config and the clock
		}
		n++
		out.buffers += float64(told.Plan.Hit + told.Plan.Read)
		told.Plan.walk(func(p plan) {
			kind := p.Type
			if p.Index != "" {
				kind += " " + p.Index
			} else if p.Relation != "" {
				kind += " " + p.Relation
			}
			out.kinds[kind] = true
		})
	}
	if n != times {
		w.Fatalf("the server told %d plans of %d", n, times)
	}
	out.buffers /= times
	return out
}

func (p plans) nodes() []string { return slices.Sorted(maps.Keys(p.kinds)) }

// unwanted are the nodes that a growing table makes slower.
func (p plans) unwanted() (bad []string) {
	for _, kind := range p.nodes() {
		if strings.HasPrefix(kind, "Seq Scan") || strings.Contains(kind, "Sort") {
			bad = append(bad, kind)
		}
	}
	return bad
}
