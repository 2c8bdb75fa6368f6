package resolver

import (
	"context"
	"log/slog"
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
	// Tokens mints the tokens of OAuth2 kinds; nil: those kinds are unavailable.
	Tokens connector.Tokens
	Log    *slog.Logger

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

// Stats counts what a Resolver did, for metrics. All fields but ClockSkewSeconds
// only grow.
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
	TokenOutages     atomic.Int64 // backends that could not be made anew in time for their token's end
	ClockSkewSeconds atomic.Int64 // last seen |own clock - database's|, whole seconds
}

// Resolver answers slots. Its methods are safe for concurrent use. Run keeps it
// fresh; without Run every answer ages out after TTL and is read again.
type Resolver struct {
	o      Options
	clock  clock
	memory *otter.Cache[key, *entry]
	pins   *otter.Cache[pinKey, secret.Body]
	states *states
	// sessions are the callers' rights, where the process has none of its own.
	sessions sessions

	flightMu sync.Mutex
	flights  map[key]*flight
	secrets  singleflight.Group

	// connectedUntil is the instant at which the feed's proof of life ends.
	connectedUntil atomic.Int64
	// lostAt is when a feed was last known to be whole; with connectedUntil it
	// says until when unsuspected answers were known to be true.
	lostAt atomic.Int64
	// acknowledged is when the present subscription was, see admissible.
	acknowledged atomic.Int64
	// retryAt is when the database may be asked again after an outage, which
	// began at awaySince; both are 0 when it answered last time. backAt is when it
	// did so again, until everything in use was renewed; kick asks Keep for that.
	retryAt   atomic.Int64
	awaySince atomic.Int64
	backAt    atomic.Int64
	kick      chan struct{}

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
		OnAtomicDeletion: func(d otter.DeletionEvent[key, *entry]) {
			d.Value.state.entries.Add(-1)
		},
	})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the memory cannot be made").WithCause(err)
	}
	// Pins are kept apart from answers, so that an edit that leaves the secrets
	// alone, and organizations that inherit one connector, cost no Vault read.
	pins, err := otter.New(&otter.Options[pinKey, secret.Body]{
		MaximumWeight: uint64(o.MaxBytes/4 + 1),
		Weigher:       func(_ pinKey, b secret.Body) uint32 { return uint32(pinOverhead + b.Len()) },
	})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the memory cannot be made").WithCause(err)
	}
	return &Resolver{
		o: o, clock: newClock(), memory: memory, pins: pins, states: newStates(),
		flights: make(map[key]*flight), kick: make(chan struct{}, 1),
	}, nil
}

// Resolve answers a slot with nothing older than revision minimum (0: any).
// With a negative answer (no default, suspended, unknown) the Answer still tells
// its source, revision, age and whether it is stale; with any other error it is
// zero. A caller's end of ctx ends only its
// own waiting; one whose deadline passes is served what is held, as stale.
// Errors: fault.NotFound (unknown tenant), fault.NoDefaultConnector,
// fault.TenantSuspended, fault.PermissionDenied (inactive organization),
// fault.NeedsReauthorization, fault.Conflict (minimum above the database's
// revision), fault.Unavailable, fault.DeadlineExceeded.
func (r *Resolver) Resolve(ctx context.Context, s Slot, minimum int64) (Answer, error) {
	return r.answer(ctx, key{tenant: s.Tenant, org: s.Organization, category: s.Category, session: r.sessions.of(s.Session)}, minimum)
}

// Connector answers for one connector by id; an inactive one too. Errors as
// Resolve's, and fault.NotFound, fault.Inactive.
func (r *Resolver) Connector(ctx context.Context, q ByID, minimum int64) (Answer, error) {
	return r.answer(ctx, key{tenant: q.Tenant, org: q.Organization, id: q.Connector, session: r.sessions.of(q.Session)}, minimum)
}

// ResolveAll answers every category that has a default for the slot's
// organization (its Category is ignored). One broken category doesn't fail the
// rest: it is in Errors. What concerns the tenant or the organization as a
// whole is the error, and so is an outage that leaves nothing known. The parts
// may be of different moments; Revision is the oldest of theirs.
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
			a, err := r.Resolve(ctx, Slot{Tenant: s.Tenant, Organization: s.Organization, Category: c.Category, Session: s.Session}, minimum)
			outcomes[i] = outcome{a, err}
		})
	}
	wg.Wait()
	set := Set{Answers: make(map[providers.Category]Answer), Errors: make(map[providers.Category]error)}
	known := false
	for i, out := range outcomes {
		if out.err != nil && out.a.Source != "" {
			set.Negative = append(set.Negative, out.a)
		}
		switch fault.CodeOf(out.err) {
		case "":
			set.Answers[categories[i].Category] = out.a
		case fault.NoDefaultConnector:
		case fault.NotFound, fault.TenantSuspended, fault.PermissionDenied, fault.Conflict:
			whole := Set{}
			if out.a.Source != "" {
				whole.Negative = []Answer{out.a}
			}
			return whole, out.err
		default:
			set.Errors[categories[i].Category] = out.err
			if fault.Outage(out.err) {
				continue
			}
		}
		known = true
		if out.a.Revision != 0 && (set.Revision == 0 || out.a.Revision < set.Revision) {
			set.Revision = out.a.Revision
		}
	}
	if !known && len(outcomes) > 0 {
		return Set{}, outcomes[0].err // not even which categories have one is known
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

// proven is the last moment at which the feed proved that no change is missing.
func (r *Resolver) proven(now instant) instant {
	if r.connected(now) {
		return now
	}
	return instant(r.lostAt.Load())
}

// answer is the hot path: on a hit it allocates nothing and takes no lock.
func (r *Resolver) answer(ctx context.Context, k key, minimum int64) (Answer, error) {
	e, ok := r.memory.GetIfPresent(k)
	if !ok {
		return r.miss(ctx, k, nil, minimum)
	}
	now := r.clock.now()
	m, fresh := r.fresh(e, now, minimum)
	if !fresh {
		return r.miss(ctx, k, e, minimum)
	}
	e.state.touch(now)
	if e.due(now) {
		r.renew(k, e, now)
	}
	return r.serve(e, m, now, FromMemory)
}

// fresh tells whether e may be served as it is, and by which validation.
func (r *Resolver) fresh(e *entry, now instant, minimum int64) (mark, bool) {
	m := e.validation()
	return m, e.unsuspected(m) && m.revision >= minimum && now.since(m.at) <= r.ttl(e) && !e.ended()
}

func (r *Resolver) ttl(e *entry) time.Duration {
	if e.err != nil {
		return r.o.NegativeTTL
	}
	return r.o.TTL
}

// ended tells whether a minted token in the entry is past its end, or the right
// that its secrets were read with.
func (e *entry) ended() bool {
	return !e.expires.IsZero() && !time.Now().Before(e.expires) || e.session != nil && !e.session.Live()
}

// serve makes the Answer of a fresh entry. A negative one carries revision,
// source and age beside the error.
func (r *Resolver) serve(e *entry, m mark, now instant, from Source) (Answer, error) {
	a := Answer{Body: e.body, ETag: e.etag, Source: from, Revision: m.revision, ExpiresAt: e.expires}
	if !r.connected(now) {
		a.Age = now.since(m.at)
	}
	return a, e.err
}

// stale serves what is held while the database can't be asked: never what is
// known to have changed, never past max_stale since it was last known true. err is
// the answer too where a refusal is what is held.
func (r *Resolver) stale(k key, e *entry, minimum int64) (a Answer, held bool, err error) {
	if !r.servable(k, e, minimum) {
		return Answer{}, false, nil
	}
	now, m := r.clock.now(), e.validation()
	r.Stats.StaleServed.Add(1)
	e.state.touch(now)
	if e.due(now) {
		r.renew(k, e, now)
	}
	a = Answer{ETag: e.etag, Source: FromMemory, Revision: m.revision, Stale: true, ExpiresAt: e.expires}
	if !r.connected(now) || !e.unsuspected(m) {
		a.Age = now.since(m.at)
	}
	if e.err == nil {
		a.Body = staleBody(e.body)
	}
	return a, true, e.err
}

// servable tells whether stale would serve e.
func (r *Resolver) servable(k key, e *entry, minimum int64) bool {
	return e != nil && !e.ended() && r.holdable(k, e, minimum)
}

// holdable tells whether what e says of the record may still be held to be true
// while the database is away.
func (r *Resolver) holdable(k key, e *entry, minimum int64) bool {
	if e.state.dead.Load() || e.wrong.Load() {
		return false
	}
	m, now := e.validation(), r.clock.now()
	return m.revision >= minimum && now.since(r.lastTrue(e, m, now)) <= e.maxStale &&
		!e.state.known(k, m.revision)
}

func (r *Resolver) maxStale(c providers.Category) time.Duration {
	if l, ok := r.o.MaxStaleByCategory[c]; ok {
		return l
	}
	return r.o.MaxStale
}

// lastTrue is the last moment at which the entry was known to be true:
// validated against the database, or unsuspected while connected.
func (r *Resolver) lastTrue(e *entry, m mark, now instant) instant {
	at := m.at
	if e.unsuspected(m) {
		at = max(at, r.proven(now))
	}
	if t := e.state.trueUntil.Load(); t != nil && m.revision >= t.revision && m.at >= t.since {
		at = max(at, t.until)
	}
	return at
}
