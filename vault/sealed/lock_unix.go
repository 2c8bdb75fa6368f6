//go:build unix

package sealed

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// lockPoll is how often a waiter tries again; flock has no wait with a deadline.
const lockPoll = 5 * time.Millisecond

// lockFile excludes other processes (an import beside a running dev) until the
// returned function is called. The kernel releases it when a holder is killed.
func lockFile(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, ioFault("open its lock", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, ioFault("take its lock", err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fault.New(fault.DeadlineExceeded, "the sealed store is busy").WithCause(ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
