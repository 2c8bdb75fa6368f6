//go:build unix

package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// errLocked: another process holds the data dir.
var errLocked = errors.New("is in use by another sidecar")

// lockDir takes an exclusive lock that ends with the process. made says that the
// caller has just made the folder; the lock file remembers that, so that ours
// tells whether anybody who took the lock did. The mark goes through the
// descriptor that holds the lock: on some file systems, closing another one of
// the same file would end the lock.
func lockDir(path string, made bool) (ours bool, unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, nil, fmt.Errorf("the data dir %s cannot be written: %w", filepath.Dir(path), err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return false, nil, fmt.Errorf("the data dir %s %w: stop it, or give --data-dir", filepath.Dir(path), errLocked)
	}
	if made {
		_, _ = f.WriteAt([]byte(madeMark), 0) // without it the folder is taken for somebody else's: the careful side
	}
	mark := make([]byte, len(madeMark))
	_, _ = f.ReadAt(mark, 0)                                       // an empty file is none of ours
	return string(mark) == madeMark, func() { _ = f.Close() }, nil // closing releases the lock
}

// madeMark is the lock file's content where the folder was made with it.
const madeMark = "made by sidecar\n"

// listenAlone listens on a socket of mode 0600, from its first moment: the umask is
// the process's, so it is narrowed for this one call. Whoever calls holds the
// data dir's lock, so a socket that is there already is a dead process's.
func listenAlone(ctx context.Context, path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return (&net.ListenConfig{}).Listen(ctx, "unix", path)
}

// owner is the user that a file belongs to.
func owner(info os.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0)
}
