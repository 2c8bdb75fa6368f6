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

	// ReadGrant reads the latest grant of a connector. One without values is none:
	// there never was one (Version 0), or it was forgotten. Version is what a next one
	// is written against either way, also beside fault.NotFound, for a version that
	// somebody else deleted.
	ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (Grant, error)
	// WriteGrant stores g when the latest version is still cas (0: none), and
	// returns the new version; else fault.Conflict.
	WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, g secret.Map, cas int64) (int64, error)
	// ForgetGrant leaves a grant without values in the place of version cas, where
	// that is the latest, and destroys all versions before it. So the path holds no
	// token any more, and versions go on: a refresh that is under way meets a version
	// that it doesn't know, and can't bring the grant back. It returns the latest
	// version. A grant that is none already stays, and what is left before it goes; one
	// that never was (cas 0) is no error.
	// Errors: fault.Conflict where cas isn't the latest version. After another error
	// the grant may be forgotten in part: call it again, with the version that
	// ReadGrant says.
	ForgetGrant(ctx context.Context, t tenant.ID, id connector.ID, cas int64) (int64, error)
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
	Values    secret.Map // empty: there is no grant
	Version   int64
	WrittenAt time.Time // from the store's metadata; zero for Version 0
}
