package sealed

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// tmpPrefix marks files that a kill left half-written; no listing shows them.
const tmpPrefix = ".tmp-"

// tmpAge is how old a leftover must be before Open removes it: younger ones
// may belong to another process that is writing right now.
const tmpAge = time.Hour

// replace writes data so that path holds either its old content or all of the
// new one after a crash at any moment: the file is synced before the rename,
// the folder after it, else the rename itself could be lost.
func replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tmpPrefix+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

// makeDirs creates dir and syncs each folder that got a new entry, down from
// root, which exists.
func makeDirs(root, dir string) error {
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return err
	}
	for seg := range strings.SplitSeq(rel, string(filepath.Separator)) {
		parent := root
		root = filepath.Join(root, seg)
		if err := os.Mkdir(root, 0o700); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := syncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweepTemp removes leftovers of killed writers, as far as it can: a leftover
// does no harm.
func sweepTemp(dir string, now time.Time) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }() // only a handle
	_ = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			removeLeftover(root, path, d, now)
		}
		return nil // a folder that cannot be read is left out
	})
}

// removeLeftover removes the file that the walk saw at path when it is one. It
// does so below root, never by a name alone: whoever can write to a folder of
// the store could put a symbolic link in its place between the look and the
// removal, and would have files of others removed, with this process's rights.
func removeLeftover(root *os.Root, path string, d fs.DirEntry, now time.Time) {
	if d.IsDir() || !strings.HasPrefix(d.Name(), tmpPrefix) {
		return
	}
	if info, err := root.Lstat(path); err == nil && now.Sub(info.ModTime()) > tmpAge {
		_ = root.Remove(path)
	}
}

// ioFault classifies a file system error. Its text names a path, so it stays
// private, and of that only the reason: bundle paths are nobody's business.
func ioFault(action string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		err = le.Err
	}
	return fault.New(fault.Unavailable, "the sealed store could not "+action).WithCause(err)
}
