package oauth

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// Lease is the part of connector.Grants that refreshing needs; see there.
type Lease interface {
	Grant(ctx context.Context, t tenant.ID, id connector.ID) (connector.GrantRow, error)
	AcquireGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, d time.Duration) (connector.GrantRow, bool, error)
	RenewGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64, d time.Duration) (bool, error)
	ReleaseGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64) error
	SettleGrant(ctx context.Context, t tenant.ID, id connector.ID, version int64, status connector.GrantStatus) (bool, error)
}

// GrantStore keeps refresh tokens. vault.Store is one; its errors are classified
// as there. ForgetGrant is for a control plane alone: a sidecar has no right to it.
type GrantStore interface {
	ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (vault.Grant, error)
	WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, g secret.Map, cas int64) (int64, error)
	ForgetGrant(ctx context.Context, t tenant.ID, id connector.ID, cas int64) (int64, error)
}

// TokenCache is what processes share. It is given nothing in clear, and every
// error of it is a miss. Implementations bound each call's time themselves (tens
// of milliseconds) and are safe for concurrent use.
type TokenCache interface {
	// GetToken reads what is under a tenant's name; nil when there is nothing.
	GetToken(ctx context.Context, t tenant.ID, name string) ([]byte, error)
	// PutToken keeps a value for the given time at most.
	PutToken(ctx context.Context, t tenant.ID, name string, value []byte, live time.Duration) error
	// ClaimToken takes a name for the given time and tells whether it did; false:
	// somebody else has it.
	ClaimToken(ctx context.Context, t tenant.ID, name string, live time.Duration) (bool, error)
}

// Options configure a Manager. Lease, Grants and Client are needed.
type Options struct {
	Lease  Lease
	Grants GrantStore
	// Client reaches token endpoints; the tenant typed some of them, so its transport
	// is the egress policy's. Its redirect policy is not used: no redirect is followed.
	Client *http.Client
	// Cache is shared by the fleet; nil: each process reads Vault.
	Cache TokenCache
	// CacheKey reads the key that shared tokens are encrypted with. It is asked again
	// every few minutes, so that a key can be replaced. nil: nothing is shared.
	CacheKey func(ctx context.Context) (CacheKey, error)

	HTTPTimeout time.Duration // of one request to an issuer; default 10 s
	// WriteBudget is how long a replaced refresh token is tried to be stored before
	// it is given up; default 10 min.
	WriteBudget time.Duration
	MaxTokens   int // held in memory; default 32768
	Log         *slog.Logger
	Clock       func() time.Time // default time.Now
}

// CacheKey encrypts shared tokens. ID tells keys apart and is not secret; at most
// 64 bytes. Key is 32 random bytes.
type CacheKey struct {
	ID  string
	Key secret.Value
}

// Stats counts what a Manager did, for metrics. All fields but Unstored only grow.
type Stats struct {
	Refreshes     atomic.Int64 // access tokens that an issuer gave for a refresh token
	Mints         atomic.Int64 // ... for the client's own credentials or an assertion
	SharedHits    atomic.Int64 // fresh tokens found in the shared cache
	GrantHits     atomic.Int64 // fresh tokens found in Vault
	SharedErrors  atomic.Int64 // the shared cache, or its key, failed
	LeaseWaits    atomic.Int64 // refreshes that another process was at already
	LeaseFaults   atomic.Int64 // the lease store did not answer
	GrantFaults   atomic.Int64 // the grant store did not answer
	LostWrites    atomic.Int64 // answers of an issuer that somebody else's had overtaken
	Unstored      atomic.Int64 // answers held just now because they can't be stored
	Lost          atomic.Int64 // replaced refresh tokens that were given up unstored
	Outages       atomic.Int64 // tries at an issuer that brought no clear answer
	Refused       atomic.Int64 // grants that an issuer refused
	ClientRefused atomic.Int64 // OAuth2 clients or requests that an issuer refused
}

// Manager gives connectors their tokens. Its methods are safe for concurrent use.
// It starts goroutines for refreshes only; Close ends them.
type Manager struct {
	o     Options
	owner string // of leases; random
	lease time.Duration

	ctx    context.Context // of refreshes, which no caller's end ends
	cancel context.CancelFunc

	mu      sync.Mutex
	entries map[key]*entry
	closing bool
	work    sync.WaitGroup

	flights atomic.Int64
	styles  styles
	keys    keyring
	// provenAt is when a grant was last written, or shown to be writable (Unix ns).
	provenAt atomic.Int64

	// step is called between the steps of a refresh. Tests stop a process there.
	step func(name string)

	Stats Stats
}

var _ connector.Grantor = (*Manager)(nil)

// The bounds of single calls to our own stores.
const (
	leaseTimeout = 3 * time.Second
	grantTimeout = 6 * time.Second
)

// New returns a Manager. It does no I/O.
// Errors: fault.InvalidArgument when a needed option is missing.
func New(o Options) (*Manager, error) {
	if o.Lease == nil || o.Grants == nil || o.Client == nil {
		return nil, fault.New(fault.InvalidArgument, "tokens need a lease store, a grant store and a way to the network")
	}
	if o.HTTPTimeout <= 0 {
		o.HTTPTimeout = 10 * time.Second
	}
	if o.WriteBudget <= 0 {
		o.WriteBudget = 10 * time.Minute
	}
	if o.MaxTokens <= 0 {
		o.MaxTokens = 1 << 15
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	m := &Manager{
		o: o, owner: rand.Text(), lease: o.HTTPTimeout * 5 / 2,
		entries: make(map[key]*entry), step: func(string) {},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Close lets refreshes under way end, the storing of their answers too, until ctx
// does; then it breaks them off. Tokens that are held are served on.
// Errors: ctx's, when something was broken off.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { m.work.Wait(); close(done) }()
	defer m.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		m.cancel()
		<-done
		return context.Cause(ctx)
	}
}

// now is the wall clock's: a machine that was suspended must not take the time
// asleep for a token's life.
func (m *Manager) now() time.Time { return m.o.Clock().Round(0) }

// newOwner names one refresh. Two of one process for one connector (its client has
// changed meanwhile) exclude each other as those of two processes do.
func (m *Manager) newOwner() string {
	return m.owner + "-" + strconv.FormatInt(m.flights.Add(1), 36)
}

// sleep waits for d or the end of ctx, and tells whether it was d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
