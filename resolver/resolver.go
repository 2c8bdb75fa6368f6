package resolver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// Options configure a Resolver. Database, Secrets and Kinds are needed; Shared
// may be nil (one sidecar, or none shared).
type Options struct {
	Database Database
	Secrets  Secrets
	Shared   Shared
	Kinds    *providers.Registry
	Log      *slog.Logger

	TTL         time.Duration // freshness without validation; default 60 s
	NegativeTTL time.Duration // of negative answers; default 10 s
	// MaxStale bounds how long an answer is served after it was last known to
	// be true; default 1 h. MaxStaleByCategory overrides it.
	MaxStale           time.Duration
	MaxStaleByCategory map[providers.Category]time.Duration
	MaxBytes           int           // of memory for answers; default 32 MiB
	FlightTimeout      time.Duration // of one miss, detached from its callers; default 5 s
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.TTL, time.Minute)
	def(&o.NegativeTTL, 10*time.Second)
	def(&o.MaxStale, time.Hour)
	def(&o.FlightTimeout, 5*time.Second)
	if o.MaxBytes <= 0 {
		o.MaxBytes = 32 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Stats counts what a Resolver did, for metrics. All fields only grow.
type Stats struct {
	DatabaseReads    atomic.Int64 // slots and connectors read from the database
	RevisionReads    atomic.Int64 // batched revision statements
	VaultReads       atomic.Int64
	RedisReads       atomic.Int64
	RedisHits        atomic.Int64
	RedisErrors      atomic.Int64
	StaleServed      atomic.Int64
	WentBack         atomic.Int64 // the database was found below a revision it had told
	Messages         atomic.Int64
	Breaks           atomic.Int64 // subscriptions ended or found gapped
	Unchanged        atomic.Int64 // suspects that turned out to be the same
	DatabaseOutages  atomic.Int64
	VaultOutages     atomic.Int64
	ClockSkewSeconds atomic.Int64 // last seen |own clock - database's|, whole seconds
}

// Resolver answers slots. Its methods are safe for concurrent use. Run keeps it
// fresh; without Run every answer ages out after TTL and is read again.
type Resolver struct {
	o      Options
	clock  clock
	memory *otter.Cache[key, *entry]
	pins   *otter.Cache[connector.SecretRef, secret.Map]
	states *states

	flightMu sync.Mutex
	flights  map[key]*flight
	secrets  singleflight.Group

	// connectedUntil is the instant at which the feed's proof of life ends.
	connectedUntil atomic.Int64
	// lostAt is when a feed was last known to be whole; with connectedUntil it
	// says until when unsuspected answers were known to be true.
	lostAt atomic.Int64
	// retryAt is when the database may be asked again after an outage; 0 when
	// it answered last time.
	retryAt atomic.Int64

	Stats Stats
}

// New returns a Resolver. It does no I/O.
// Errors: fault.InvalidArgument when a needed option is missing.
func New(o Options) (*Resolver, error) {
	o.setDefaults()
	if o.Database == nil || o.Secrets == nil || o.Kinds == nil {
		return nil, fault.New(fault.InvalidArgument, "a resolver needs a database, a secret store and a registry of kinds")
	}
	memory, err := otter.New(&otter.Options[key, *entry]{
		MaximumWeight: uint64(o.MaxBytes),
		Weigher:       func(_ key, e *entry) uint32 { return uint32(e.size()) },
	})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the memory cannot be made").WithCause(err)
	}
	// Pins are kept apart from answers, so that an edit that leaves the secrets
	// alone, and organizations that inherit one connector, cost no Vault read.
	pins, err := otter.New(&otter.Options[connector.SecretRef, secret.Map]{
		MaximumWeight: uint64(o.MaxBytes/4 + 1),
		Weigher:       func(_ connector.SecretRef, m secret.Map) uint32 { return uint32(m.Size() + 250) },
	})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the memory cannot be made").WithCause(err)
	}
	return &Resolver{
		o: o, clock: newClock(), memory: memory, pins: pins, states: newStates(),
		flights: make(map[key]*flight),
	}, nil
}

// Resolve answers a slot with nothing older than revision minimum (0: any).
// Errors: fault.NotFound (unknown tenant), fault.NoDefaultConnector,
// fault.TenantSuspended, fault.PermissionDenied (inactive organization),
// fault.NeedsReauthorization, fault.Conflict (minimum above the database's
// revision), fault.Unavailable, fault.DeadlineExceeded.
func (r *Resolver) Resolve(ctx context.Context, s Slot, minimum int64) (Answer, error) {
	return r.answer(ctx, key{tenant: s.Tenant, org: s.Organization, category: s.Category}, minimum)
}

// Connector answers for one connector by id; an inactive one too. Errors as
// Resolve's, and fault.NotFound, fault.Inactive.
func (r *Resolver) Connector(ctx context.Context, q ByID, minimum int64) (Answer, error) {
	return r.answer(ctx, key{tenant: q.Tenant, org: q.Organization, id: q.Connector}, minimum)
}

// ResolveAll answers every category that has a default for the slot's
// organization (its Category is ignored). One broken category doesn't fail the
// rest: it is in Errors. What concerns the tenant or the organization as a
// whole is the error.
func (r *Resolver) ResolveAll(ctx context.Context, s Slot, minimum int64) (Set, error) {
	categories := r.o.Kinds.Categories()
	type outcome struct {
		a   Answer
		err error
	}
	outcomes := make([]outcome, len(categories))
	var wg sync.WaitGroup
	for i, c := range categories {
		wg.Go(func() {
			a, err := r.Resolve(ctx, Slot{Tenant: s.Tenant, Organization: s.Organization, Category: c.Category}, minimum)
			outcomes[i] = outcome{a, err}
		})
	}
	wg.Wait()
	set := Set{Answers: make(map[providers.Category]Answer), Errors: make(map[providers.Category]error)}
	for i, out := range outcomes {
		switch fault.CodeOf(out.err) {
		case "":
			set.Answers[categories[i].Category] = out.a
			if set.Revision == 0 || out.a.Revision < set.Revision {
				set.Revision = out.a.Revision
			}
		case fault.NoDefaultConnector:
		case fault.NotFound, fault.TenantSuspended, fault.PermissionDenied, fault.Conflict:
			return Set{}, out.err
		default:
			set.Errors[categories[i].Category] = out.err
		}
	}
	return set, nil
}

// Held tells whether memory holds anything that could be served.
func (r *Resolver) Held() bool { return r.memory.EstimatedSize() > 0 }

// Connected tells whether the feed proves that no change can be missing.
func (r *Resolver) Connected() bool {
	return r.connected(r.clock.now())
}

func (r *Resolver) connected(now instant) bool {
	return now <= instant(r.connectedUntil.Load())
}

// answer is the hot path: on a hit it allocates nothing and takes no lock.
func (r *Resolver) answer(ctx context.Context, k key, minimum int64) (Answer, error) {
	e, ok := r.memory.GetIfPresent(k)
	if !ok {
		return r.miss(ctx, k, nil, minimum)
	}
	now := r.clock.now()
	m := e.validation()
	if !e.unsuspected(m) || m.revision < minimum || now.since(m.at) > r.ttl(e) || e.ended() {
		return r.miss(ctx, k, e, minimum)
	}
	e.state.touch(now)
	return r.serve(e, m, now, FromMemory)
}

func (r *Resolver) ttl(e *entry) time.Duration {
	if e.err != nil {
		return r.o.NegativeTTL
	}
	return r.o.TTL
}

// ended tells whether a minted token in the entry is past its end.
func (e *entry) ended() bool { return !e.expires.IsZero() && !time.Now().Before(e.expires) }

// serve makes the Answer of a fresh entry.
func (r *Resolver) serve(e *entry, m mark, now instant, from Source) (Answer, error) {
	if e.err != nil {
		return Answer{}, e.err
	}
	a := Answer{Body: e.body, ETag: e.etag, Source: from, Revision: m.revision, ExpiresAt: e.expires}
	if !r.connected(now) {
		a.Age = now.since(m.at)
	}
	return a, nil
}

// stale serves what is held while the database can't be asked: never what is
// known to have changed, never past max_stale since it was last known true.
func (r *Resolver) stale(k key, e *entry, minimum int64) (Answer, error, bool) {
	if e == nil || e.state.dead.Load() || e.ended() {
		return Answer{}, nil, false
	}
	m := e.validation()
	if m.revision < minimum || e.state.known(k, m.revision) {
		return Answer{}, nil, false
	}
	now := r.clock.now()
	since := now.since(r.lastTrue(e, m, now))
	limit := r.o.MaxStale
	if l, ok := r.o.MaxStaleByCategory[k.category]; ok {
		limit = l
	}
	if since > limit {
		return Answer{}, nil, false
	}
	r.Stats.StaleServed.Add(1)
	e.state.touch(now)
	if e.err != nil {
		return Answer{}, e.err, true
	}
	return Answer{
		Body: staleBody(e.body), ETag: e.etag, Source: FromMemory, Revision: m.revision,
		Age: since, Stale: true, ExpiresAt: e.expires,
	}, nil, true
}

// lastTrue is the last moment at which the entry was known to be true:
// validated against the database, or unsuspected while connected.
func (r *Resolver) lastTrue(e *entry, m mark, now instant) instant {
	at := m.at
	if e.unsuspected(m) {
		if r.connected(now) {
			return now
		}
		at = max(at, instant(r.lostAt.Load()))
	}
	if t := e.state.trueUntil.Load(); t != nil && m.revision >= t.revision {
		at = max(at, t.at)
	}
	return at
}

// backOff notes a database outage: the next try is 200 to 700 ms away, jittered
// so that a fleet does not come back as a herd.
func (r *Resolver) backOff() {
	r.Stats.DatabaseOutages.Add(1)
	r.retryAt.Store(int64(r.clock.now().add(200*time.Millisecond + rand.N(500*time.Millisecond))))
}

func (r *Resolver) databaseBack() { r.retryAt.Store(0) }
