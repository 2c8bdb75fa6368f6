package sealed

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// base is the folder of the bundles, apart from key and lock: a tenant may be
// called "key".
const base = "secrets"

// Options of Open. The zero value is usable.
type Options struct {
	KeyFile string           // default <dir>/key; 32 bytes, mode 0600, made when absent
	Clock   func() time.Time // default time.Now
	Rand    io.Reader        // default crypto/rand; keys and nonces
}

// Store is the embedded vault.Store. Safe for concurrent use, also by several
// processes on one folder (see doc.go).
type Store struct {
	dir    string
	gcm    cipher.AEAD
	clock  func() time.Time
	random io.Reader
	turn   chan struct{} // one writer at a time, waiting honours contexts
}

var _ vault.Store = (*Store)(nil)

// Open opens the store below dir, making folder (0700) and key on first use.
// Errors: fault.InvalidArgument for a key file that others can read, that has a
// wrong size, that is missing while secrets exist, or that is not the key which
// sealed them; fault.Unavailable when the file system refuses.
func Open(dir string, o Options) (*Store, error) {
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(dir, "key")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	s := &Store{dir: dir, clock: o.Clock, random: o.Rand, turn: make(chan struct{}, 1)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, ioFault("create its folder", err)
	}
	// Ten seconds: another process holds the lock for one synced write at most.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, err := loadKey(o.KeyFile, filepath.Join(dir, base), o.Rand)
	if err != nil {
		return nil, err
	}
	if err := makeDirs(dir, filepath.Join(dir, base)); err != nil {
		return nil, ioFault("create its folder", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fault.New(fault.Internal, "the sealing cipher is not available").WithCause(err)
	}
	if s.gcm, err = cipher.NewGCM(block); err != nil {
		return nil, fault.New(fault.Internal, "the sealing cipher is not available").WithCause(err)
	}
	if err := s.checkKey(o.KeyFile); err != nil {
		return nil, err
	}
	sweepTemp(dir, o.Clock())
	return s, nil
}

// lock admits one writer, of this process and of others.
func (s *Store) lock(ctx context.Context) (func(), error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	release, err := lockFile(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		<-s.turn
		return nil, err
	}
	return func() { release(); <-s.turn }, nil
}

// ended turns an ended context into its fault. A local file needs no deadline
// once it is begun, so it is asked before the work and while waiting for the lock.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.DeadlineExceeded, "the secret store was asked too late").WithCause(err)
	}
	return nil
}

// file turns a place, which package vault has proved to stay below its tenant,
// into a file name. Nothing else makes one.
func (s *Store) file(place string) string { return filepath.Join(s.dir, filepath.FromSlash(place)) }

// load reads a record whole. Errors: fs.ErrNotExist unclassified, for the
// callers to judge; else classified ones.
func (s *Store) load(place string) (header, vault.Bundle, error) {
	raw, err := os.ReadFile(s.file(place))
	if errors.Is(err, fs.ErrNotExist) {
		return header{}, vault.Bundle{}, fs.ErrNotExist
	}
	if err != nil {
		return header{}, vault.Bundle{}, ioFault("read a secret", err)
	}
	return unseal(s.gcm, place, raw)
}

// save seals and stores a record. The caller holds the lock.
func (s *Store) save(place string, h header, b vault.Bundle) error {
	raw, err := seal(s.gcm, s.random, place, h, b)
	if err != nil {
		return err
	}
	path := s.file(place)
	if err := makeDirs(s.dir, filepath.Dir(path)); err != nil {
		return ioFault("create a folder", err)
	}
	if err := replace(path, raw); err != nil {
		return ioFault("write a secret", err)
	}
	return nil
}

// Write implements vault.Store. Once it returns nil the bundle survives a kill
// and a power cut: file and folders are synced.
func (s *Store) Write(ctx context.Context, ref connector.SecretRef, b vault.Bundle) error {
	place, err := vault.BundlePath(base, ref)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(s.file(place)); err == nil {
		return fault.New(fault.AlreadyExists, "these secrets have been written before")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return ioFault("look for a secret", err)
	}
	return s.save(place, header{writtenAt: s.clock().UnixNano(), version: 1}, b)
}

// Read implements vault.Store. It takes no lock: a rename swaps whole files.
// A place that holds nothing is fault.Unavailable, as with Vault: a lost data
// folder must not look like deleted secrets.
func (s *Store) Read(ctx context.Context, ref connector.SecretRef) (vault.Bundle, error) {
	place, err := vault.BundlePath(base, ref)
	if err != nil {
		return vault.Bundle{}, err
	}
	if err := ended(ctx); err != nil {
		return vault.Bundle{}, err
	}
	h, b, err := s.load(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vault.Bundle{}, fault.New(fault.Unavailable, "the secret store has no record of these secrets")
	case err != nil:
		return vault.Bundle{}, err
	case h.deletedAt != 0:
		return vault.Bundle{}, fault.New(fault.NotFound, "these secrets were deleted")
	}
	return b, nil
}

// Delete implements vault.Store: the record stays, marked.
func (s *Store) Delete(ctx context.Context, ref connector.SecretRef) error {
	place, err := vault.BundlePath(base, ref)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	h, b, err := s.load(place)
	if errors.Is(err, fs.ErrNotExist) || err == nil && h.deletedAt != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	h.deletedAt = s.clock().UnixNano()
	return s.save(place, h, b)
}

// Destroy implements vault.Store: the file goes.
func (s *Store) Destroy(ctx context.Context, ref connector.SecretRef) error {
	place, err := vault.BundlePath(base, ref)
	if err != nil {
		return err
	}
	return s.remove(ctx, place)
}

// ForgetGrant implements vault.Store. There are no versions before the latest.
func (s *Store) ForgetGrant(ctx context.Context, t tenant.ID, id connector.ID, cas int64) (int64, error) {
	g, err := s.ReadGrant(ctx, t, id)
	switch {
	case err != nil:
		return 0, err
	case g.Version != cas:
		return 0, fault.New(fault.Conflict, "the grant was changed meanwhile")
	case len(g.Values) == 0:
		return cas, nil
	}
	return s.WriteGrant(ctx, t, id, secret.Map{}, cas)
}

// DestroyGrant implements vault.Store.
func (s *Store) DestroyGrant(ctx context.Context, t tenant.ID, id connector.ID) error {
	place, err := vault.GrantPath(base, t, id)
	if err != nil {
		return err
	}
	return s.remove(ctx, place)
}

// remove removes a record for good; one that is not there is no error.
func (s *Store) remove(ctx context.Context, place string) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	path := s.file(place)
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return ioFault("remove a secret", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return ioFault("remove a secret", err)
	}
	// Empty folders go too, as Vault's do; one that is not empty refuses.
	for range 2 {
		path = filepath.Dir(path)
		if os.Remove(path) != nil {
			break
		}
	}
	return nil
}

// ReadGrant implements vault.Store. The file holds the latest version only.
func (s *Store) ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (vault.Grant, error) {
	place, err := vault.GrantPath(base, t, id)
	if err != nil {
		return vault.Grant{}, err
	}
	if err := ended(ctx); err != nil {
		return vault.Grant{}, err
	}
	h, b, err := s.load(place)
	if errors.Is(err, fs.ErrNotExist) {
		return vault.Grant{}, nil
	}
	if err != nil {
		return vault.Grant{}, err
	}
	return vault.Grant{Values: b.Values, Version: h.version, WrittenAt: stamp(h.writtenAt)}, nil
}

// WriteGrant implements vault.Store. Comparing and writing happen under the lock,
// which spans processes: two refreshes at once lose no rotated token.
func (s *Store) WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, g secret.Map, cas int64) (int64, error) {
	place, err := vault.GrantPath(base, t, id)
	if err != nil {
		return 0, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	h, _, err := s.load(place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if h.version != cas {
		return 0, fault.New(fault.Conflict, "the grant was changed meanwhile")
	}
	h = header{writtenAt: s.clock().UnixNano(), version: cas + 1}
	return h.version, s.save(place, h, vault.Bundle{Values: g})
}

// Ready implements vault.Store: the folder can be read.
func (s *Store) Ready(ctx context.Context) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if _, err := os.ReadDir(s.file(base)); err != nil {
		return ioFault("read its folder", err)
	}
	return nil
}

// Close implements vault.Store; there is nothing to release.
func (s *Store) Close() error { return nil }
