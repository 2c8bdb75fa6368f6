package vault

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Store keeps secret bundles. Implementations are safe for concurrent use and
// honour the context's deadline. They classify their errors:
//
//   - fault.NotFound: a clear answer. The path's metadata says that the version
//     was deleted or destroyed;
//   - fault.AlreadyExists: the path has been written before;
//   - fault.Conflict: a grant's check-and-set lost;
//   - fault.Unavailable: everything else, a 403 after a fresh login and a 404
//     without metadata included: a fault, during which holders keep what they hold;
//   - fault.DeadlineExceeded: the context ended first.
//
// No error, log line or metric names a path's content, and none holds a secret.
type Store interface {
	// Write stores b at ref's path, which must never have been written.
	Write(ctx context.Context, ref connector.SecretRef, b Bundle) error
	// Read returns the bundle at ref's path.
	Read(ctx context.Context, ref connector.SecretRef) (Bundle, error)
	// Delete soft-deletes what is at ref; deleting twice is no error.
	Delete(ctx context.Context, ref connector.SecretRef) error
	// Destroy removes what is at ref for good, metadata included.
	Destroy(ctx context.Context, ref connector.SecretRef) error

	// Tenants, Connectors and Refs walk what is stored, for the sweeper.
	Tenants(ctx context.Context) ([]tenant.ID, error)
	Connectors(ctx context.Context, t tenant.ID) ([]connector.ID, error)
	Refs(ctx context.Context, t tenant.ID, id connector.ID) ([]Stored, error)

	// ReadGrant reads the latest grant of a connector. Version 0 and no error
	// means that there never was one.
	ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (Grant, error)
	// WriteGrant stores g when the latest version is still cas (0: none), and
	// returns the new version; else fault.Conflict.
	WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, g secret.Map, cas int64) (int64, error)
	// DestroyGrant removes a connector's grant for good, all its versions and their
	// count; one that is not there is no error. It is for a connector that is gone: a
	// later grant would begin anew, below the versions that are known.
	DestroyGrant(ctx context.Context, t tenant.ID, id connector.ID) error

	// Ready returns nil while the store is logged in (unsealed, readable).
	Ready(ctx context.Context) error
	// Close stops renewal and forgets tokens.
	Close() error
}

// Bundle is all secrets of a connector at one moment.
type Bundle = connector.Bundle

// Stored is one bundle as the sweeper sees it.
type Stored struct {
	Ref       connector.SecretRef
	WrittenAt time.Time // from the store's metadata
	DeletedAt time.Time // zero while alive
}

// Grant is an OAuth2 grant with its version.
type Grant struct {
	Values  secret.Map
	Version int64
}
