package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// world is a database, a secret store and a shared cache whose every step a
// test can hold, fail or rewind. Interleavings can't be forced on real servers;
// the same protocol runs against those in the end-to-end tests.
type world struct {
	mu        sync.Mutex
	revision  int64
	bucket    string
	pin       connector.Pin
	version   int64
	status    connector.Status
	none      bool
	draft     bool // inactive, and without what its kind requires
	down      bool
	vaultDown error
	vaultHold chan struct{} // a read of secrets waits for it
	broken    tenant.ID     // its record can't be read
	missing   bool          // tenants other than acme don't exist
	asked     []time.Time   // of the revision statements
	panics    bool
	kind      providers.Kind // "" is s3
	grant     connector.GrantStatus
	grantVer  int64
	hold      chan struct{} // a read waits for it after it has read
	reading   chan struct{} // a read reports here that it has read

	reads, revisions, secretReads atomic.Int64
	secrets                       map[connector.SecretRef]secret.Map
}

var (
	acme   = tenant.MustID("acme")
	acmeHQ = tenant.MustOrganizationID("hq")
	slot   = Slot{Tenant: acme, Organization: acmeHQ, Category: providers.Storage}
	theID  = connector.NewID()
)

var errDown = fault.New(fault.Unavailable, "the database is down")

func newWorld() *world {
	w := &world{revision: 10, status: connector.StatusReady, secrets: map[connector.SecretRef]secret.Map{}}
	w.set("one", "secret-one")
	w.revision = 10
	return w
}

// set commits a new config with a new secret, as one change.
func (w *world) set(bucket, key string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bucket, w.pin = bucket, vault.NewPin()
	w.version++
	w.revision++
	w.secrets[connector.SecretRef{Tenant: acme, Connector: theID, Pin: w.pin}] = secret.Map{
		"access_key_id": secret.New("key"), "secret_access_key": secret.New(key),
	}
	return w.revision
}

func (w *world) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) Tenant(id tenant.ID) connector.TenantReader { return reader{w: w, id: id} }

func (w *world) Revisions(_ context.Context, ids []tenant.ID) (connector.Revisions, error) {
	w.revisions.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, time.Now())
	if w.down {
		return connector.Revisions{}, errDown
	}
	out := connector.Revisions{At: time.Now(), Revision: map[tenant.ID]int64{}}
	for _, id := range ids {
		if id == acme || !w.missing {
			out.Revision[id] = w.revision
		}
	}
	return out, nil
}

// reader is the part of a TenantReader that resolution uses; the rest is nil
// and would panic.
type reader struct {
	connector.TenantReader
	w  *world
	id tenant.ID
}

func (r reader) Connector(ctx context.Context, org tenant.OrganizationID, id connector.ID) (connector.Snapshot, error) {
	s, err := r.Default(ctx, org, providers.Storage)
	if id != theID {
		s.Connector = nil
	}
	return s, err
}

func (r reader) Default(ctx context.Context, org tenant.OrganizationID, c providers.Category) (connector.Snapshot, error) {
	w := r.w
	w.reads.Add(1)
	w.mu.Lock()
	hold, reading, down := w.hold, w.reading, w.down
	s := connector.Snapshot{Revision: w.revision, At: time.Now(), Tenant: w.status, Organization: connector.OrganizationActive,
		Grant: w.grant, GrantVersion: w.grantVer}
	if !w.none && c == providers.Storage {
		s.Connector = &connector.Connector{
			ID: theID, Name: "S3", Category: providers.Storage, Kind: cmp.Or(w.kind, "s3"), Organization: org, Active: true, Default: true,
			State: connector.StateUntested, Version: w.version, Pin: w.pin,
			Params: map[string]connector.Param{"bucket": {Value: w.bucket}},
		}
	}
	if w.draft && s.Connector != nil {
		s.Connector.Active, s.Connector.Default, s.Connector.Params = false, false, nil
	}
	broken, panics := w.broken == r.id, w.panics
	if r.id != acme && w.missing {
		s = connector.Snapshot{At: time.Now()}
	}
	w.mu.Unlock()
	switch {
	case panics:
		panic("a bug with " + w.bucket)
	case broken:
		return connector.Snapshot{}, fault.New(fault.Internal, "the row cannot be decoded")
	}
	if reading != nil {
		select {
		case reading <- struct{}{}:
		case <-ctx.Done():
		}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return connector.Snapshot{}, errDown
		}
	}
	if down {
		return connector.Snapshot{}, errDown
	}
	return s, nil
}

func (w *world) Read(ctx context.Context, ref connector.SecretRef) (vault.Bundle, error) {
	w.secretReads.Add(1)
	w.mu.Lock()
	if hold := w.vaultHold; hold != nil {
		w.mu.Unlock()
		select {
		case <-hold:
		case <-ctx.Done():
			return vault.Bundle{}, errDown
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.vaultDown != nil {
		return vault.Bundle{}, w.vaultDown
	}
	ref.Tenant = acme // all tenants of this world have the same connector
	m, ok := w.secrets[ref]
	if !ok {
		return vault.Bundle{}, errors.New("the test asked for a pin that was never written")
	}
	return vault.Bundle{Values: m}, nil
}

func newResolver(t *testing.T, w *world, edit func(*Options)) *Resolver {
	t.Helper()
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Database: w, Secrets: w, Kinds: kinds}
	if edit != nil {
		edit(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// message is what a relay would publish for a change of the slot's connector.
func message(revision int64) connector.Message {
	return connector.Message{
		ID: revision, Tenant: acme, Revision: revision, Organization: acmeHQ,
		Category: providers.Storage, Connector: theID, At: time.Now(),
	}
}

// otherMessage is a change of the tenant that does not touch the slot.
func otherMessage(revision int64) connector.Message {
	m := message(revision)
	m.Category, m.Connector = providers.Email, connector.NewID()
	return m
}

// slotOf is the slot of one of many tenants.
func slotOf(i int) Slot {
	return Slot{Tenant: tenant.MustID(fmt.Sprint("t", i)), Organization: acmeHQ, Category: providers.Storage}
}

// shared is a shared cache with the rules of the real one, which a test can
// take down, rewind or hold.
type shared struct {
	mu      sync.Mutex
	revs    map[tenant.ID]int64
	entries map[SharedKey][]byte
	live    time.Duration // of the latest entry offered
	lowered []int64       // disproved, actual of the latest Lower
	down    bool
	hold    chan struct{} // Revisions waits for it
}

func newShared() *shared {
	return &shared{revs: map[tenant.ID]int64{}, entries: map[SharedKey][]byte{}}
}

func (s *shared) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shared) Get(_ context.Context, k SharedKey) (SharedReading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return SharedReading{}, errDown
	}
	revision, ok := s.revs[k.Tenant]
	return SharedReading{Entry: s.entries[k], Revision: revision, HasRevision: ok}, nil
}

func (s *shared) Fill(_ context.Context, k SharedKey, revision int64, entry []byte, live time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	s.live = live
	s.revs[k.Tenant] = max(s.revs[k.Tenant], revision)
	if s.revs[k.Tenant] == revision {
		s.entries[k] = entry
	}
	return nil
}

func (s *shared) Revisions(ctx context.Context, _ []tenant.ID) (map[tenant.ID]int64, error) {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, errDown
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errDown
	}
	return maps.Clone(s.revs), nil
}

func (s *shared) Lower(_ context.Context, id tenant.ID, disproved, actual int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lowered = []int64{disproved, actual}
	if s.revs[id] == disproved {
		s.revs[id] = actual
	}
	return nil
}
