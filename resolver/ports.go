package resolver

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// Database is the part of a connector store that resolution reads.
type Database interface {
	Tenant(id tenant.ID) connector.TenantReader
	Revisions(ctx context.Context, ids []tenant.ID) (connector.Revisions, error)
}

// Secrets is the part of a vault store that resolution reads.
type Secrets interface {
	Read(ctx context.Context, ref connector.SecretRef) (vault.Bundle, error)
}

// Session is one caller's own right to read secrets, for processes that hold none
// themselves. It is one Vault token's: what was read with it belongs to it alone
// and ends with it.
type Session interface {
	Secrets
	// ID tells sessions apart; never 0, never used again.
	ID() uint64
	// Live is false from some moment on, for good.
	Live() bool
}

// Shared is the cache between sidecars. It holds records, never secrets. Every
// error of it is a miss: losing it costs latency only. Implementations bound
// each call's time themselves (tens of milliseconds) and are safe for
// concurrent use.
type Shared interface {
	// Get reads an entry together with its tenant's revision key, in one round trip.
	Get(ctx context.Context, k SharedKey) (SharedReading, error)
	// Fill sets the tenant's revision key to max(it, revision) and stores the
	// entry only if the result equals revision: a slow reader can't resurrect
	// an old answer. The entry lives for the given time at most.
	Fill(ctx context.Context, k SharedKey, revision int64, entry []byte, live time.Duration) error
	// Revisions reads revision keys; an absent key is absent from the map.
	Revisions(ctx context.Context, ids []tenant.ID) (map[tenant.ID]int64, error)
	// Lower sets the tenant's revision key to actual when it still holds
	// disproved (compare-and-set).
	Lower(ctx context.Context, id tenant.ID, disproved, actual int64) error
}

// SharedKey addresses an entry of the shared cache: a slot, or a connector id
// as seen from an organization.
type SharedKey struct {
	Tenant tenant.ID
	Name   string // unique within the tenant
}

// SharedReading is what Get found.
type SharedReading struct {
	Entry       []byte // nil: none
	Revision    int64  // the tenant's revision key
	HasRevision bool
}

// Feed delivers the messages and heartbeats that relays publish.
type Feed interface {
	// Subscribe returns once the subscription is acknowledged.
	Subscribe(ctx context.Context) (Subscription, error)
}

// Subscription is one connection of a Feed. Receive is called by one goroutine,
// Ping and Close by others.
type Subscription interface {
	// Ping sends a PING on this very connection.
	Ping(ctx context.Context) error
	// Receive blocks for the next event; an error ends the subscription.
	Receive(ctx context.Context) (Event, error)
	Close() error
}

// EventKind tells Events apart.
type EventKind int

// The kinds of events.
const (
	EventMessage EventKind = iota
	EventHeartbeat
	EventPong
)

// Event is one thing a Subscription received. Publisher and Number count
// messages and heartbeats together, per publisher; a gap is a break.
type Event struct {
	Kind      EventKind
	Publisher string
	Number    int64
	Message   connector.Message // of EventMessage
}

// Publisher is a relay's way to the sidecars.
type Publisher interface {
	// Publish sets the revision keys of the messages' tenants to the maximum,
	// then publishes each message and remembers the greatest id as the sentinel.
	// A message without a tenant moves the sentinel only. Calls come from one
	// goroutine at a time.
	Publish(ctx context.Context, ms []connector.Message) error
	// State returns what the server is and holds now.
	State(ctx context.Context) (Standing, error)
	// Heartbeat publishes one if, by the server itself in the same step, its
	// identity is still that of s, its sentinel isn't lower and less than within
	// has passed since; it tells whether it did.
	Heartbeat(ctx context.Context, s Standing, within time.Duration) (bool, error)
}

// Standing is a server at a moment.
type Standing struct {
	Identity string // run and replication ids
	Sentinel int64  // the greatest id published; -1 when the key is missing
	At       int64  // the server's own clock, ms
}
