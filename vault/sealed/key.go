package sealed

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

const keySize = 32

// checkPlace is a sealed record of nothing beside the bundles. It can be no
// bundle's place: those lie in the folder base.
const checkPlace = "check"

// checkKey proves the key by opening what the first start sealed: each bundle by
// itself can't tell a wrong key from a damaged file. The caller holds the lock.
func (s *Store) checkKey(keyFile string) error {
	raw, err := os.ReadFile(s.file(checkPlace))
	if err == nil {
		if _, _, err = unseal(s.gcm, checkPlace, raw); err != nil {
			return fault.Newf(fault.InvalidArgument, "the key file %s is not the one that sealed the secrets in %s; put the right one back",
				keyFile, s.dir).WithCause(err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return ioFault("read its key's check", err)
	}
	if entries, err := os.ReadDir(s.file(base)); err != nil || len(entries) > 0 {
		return nil //nolint:nilerr // somebody removed it, and a folder that can't be read may hold bundles: sealing another would vouch for any key
	}
	return s.save(checkPlace, header{writtenAt: s.clock().UnixNano(), version: 1}, vault.Bundle{})
}

// loadKey reads the key file, or makes it when neither it nor any bundle
// exists. The caller holds the store's lock, so that two first starts make one key.
func loadKey(path, data string, random io.Reader) ([]byte, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	// A fresh key over old bundles would look like a good start and lose them all.
	if entries, err := os.ReadDir(data); err == nil && len(entries) > 0 {
		return nil, fault.Newf(fault.InvalidArgument,
			"the key file %s is missing but sealed secrets exist; put it back, or remove %s to start over", path, data)
	}
	if random == nil {
		random = rand.Reader
	}
	key = make([]byte, keySize)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fault.New(fault.Internal, "no randomness for a key").WithCause(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, ioFault("create the key's folder", err)
	}
	if err := replace(path, key); err != nil {
		return nil, ioFault("write the key file", err)
	}
	return key, nil
}

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, ioFault("open the key file", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, ioFault("stat the key file", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Newf(fault.InvalidArgument, "the key file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.Newf(fault.InvalidArgument,
			"the key file %s is open to others (mode %04o); run: chmod 600 %s", path, perm, path)
	}
	key := make([]byte, keySize+1)
	n, err := io.ReadFull(f, key)
	if n != keySize || !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fault.Newf(fault.InvalidArgument, "the key file %s does not hold %d bytes", path, keySize)
	}
	return key[:keySize], nil
}
