package rediscache

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var (
	acme   = tenant.MustID("acme")
	globex = tenant.MustID("globex")
	hq     = tenant.MustOrganizationID("hq")
	slot   = resolver.Slot{Tenant: acme, Organization: hq, Category: providers.Storage}
	name   = resolver.SharedKey{Tenant: acme, Name: "s:hq:storage"}
)

// open is a client of s with the keys of this test alone.
func open(t *testing.T, s *testenv.RedisServer, edit func(*Options)) *Client {
	t.Helper()
	o := Options{URL: secret.New(s.URL()), Prefix: s.Prefix(t) + "pb"}
	if edit != nil {
		edit(&o)
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func command(t *testing.T, s *testenv.RedisServer, args ...string) any {
	t.Helper()
	got, err := s.Command(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return got
}

// patience bounds most waits: far above what anything takes on a busy machine,
// and far below the minute after which an answer is read anew without a word.
const patience = 15 * time.Second

// wait polls until ok holds.
func wait(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// allKeys is every key of the server, sorted.
func allKeys(t *testing.T, s *testenv.RedisServer) []string {
	t.Helper()
	var keys []string
	for _, k := range command(t, s, "KEYS", "*").([]any) {
		keys = append(keys, k.(string))
	}
	slices.Sort(keys)
	return keys
}

const canary = "canary-that-must-stay-in-vault"

// world is a database and a secret store of one connector of acme, and the
// outbox of its changes: what stands around Redis.
type world struct {
	connector.Outbox
	mu        sync.Mutex
	revision  int64
	bucket    string
	down      bool
	pin       connector.Pin
	id        connector.ID
	rows      []connector.Message
	sent      int
	committed chan struct{}

	reads, secretReads atomic.Int64
}

func newWorld() *world {
	return &world{
		revision: 10, bucket: "one", pin: vault.NewPin(), id: connector.NewID(),
		committed: make(chan struct{}, 1),
	}
}

// change commits a new bucket with its outbox row.
func (w *world) change(bucket string) {
	w.mu.Lock()
	w.bucket = bucket
	w.revision++
	w.rows = append(w.rows, connector.Message{
		ID: int64(len(w.rows) + 1), Tenant: acme, Revision: w.revision, Organization: hq,
		Category: providers.Storage, Connector: w.id, At: time.Now(),
	})
	w.mu.Unlock()
	select {
	case w.committed <- struct{}{}:
	default:
	}
}

func (w *world) Tenant(tenant.ID) connector.TenantReader { return reader{w: w} }

func (w *world) Revisions(context.Context, []tenant.ID) (connector.Revisions, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return connector.Revisions{At: time.Now(), Revision: map[tenant.ID]int64{acme: w.revision}}, nil
}

func (w *world) Read(context.Context, connector.SecretRef) (vault.Bundle, error) {
	w.secretReads.Add(1)
	return vault.Bundle{Values: secret.Map{"access_key_id": secret.New("key"), "secret_access_key": secret.New(canary)}}, nil
}

// reader is the part of a TenantReader that resolution uses.
type reader struct {
	connector.TenantReader
	w *world
}

func (r reader) Default(_ context.Context, org tenant.OrganizationID, _ providers.Category) (connector.Snapshot, error) {
	w := r.w
	w.reads.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return connector.Snapshot{}, fault.New(fault.Unavailable, "the database is down")
	}
	return connector.Snapshot{
		Revision: w.revision, At: time.Now(), Tenant: connector.StatusReady, Organization: connector.OrganizationActive,
		Connector: &connector.Connector{
			ID: w.id, Name: "S3", Category: providers.Storage, Kind: "s3", Organization: org, Active: true, Default: true,
			State: connector.StateUntested, Version: w.revision, Pin: w.pin,
			Params: map[string]connector.Param{"bucket": {Value: w.bucket}},
		},
	}, nil
}

func (w *world) Relay(ctx context.Context, n int, send func(context.Context, []connector.Message) error) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ms := w.rows[w.sent:min(len(w.rows), w.sent+n)]
	if len(ms) == 0 {
		return 0, nil
	}
	if err := send(ctx, ms); err != nil {
		return 0, err
	}
	w.sent += len(ms)
	return len(ms), nil
}

func (w *world) Unsent(_ context.Context, age time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent < len(w.rows) && time.Since(w.rows[w.sent].At) > age, nil
}

func (w *world) LastSent(context.Context) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(w.sent), nil
}

func (w *world) Sent(_ context.Context, _ time.Duration, after int64, n int) ([]connector.Message, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows[min(int(after), w.sent):min(int(after)+n, w.sent)], nil
}

func (w *world) Committed() <-chan struct{}                                { return w.committed }
func (w *world) SweepOutbox(context.Context, time.Duration) (int64, error) { return 0, nil }

// sidecar is a resolver over w and c that listens until the test ends.
func sidecar(t *testing.T, w *world, c *Client) *resolver.Resolver {
	t.Helper()
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	r, err := resolver.New(resolver.Options{Database: w, Secrets: w, Shared: c, Kinds: kinds})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return r.Listen(ctx, c) })
	background(t, r.Keep)
	return r
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func bucketOf(t *testing.T, r *resolver.Resolver) (string, resolver.Answer) {
	t.Helper()
	a, err := r.Resolve(t.Context(), slot, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(a.Body.Reveal()), `"bucket":"`)
	bucket, _, _ := strings.Cut(rest, `"`)
	return bucket, a
}
