package httpapi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// ListenUnix listens on a Unix socket of mode 0660. A socket that a dead process
// left behind is removed; one that answers, and anything that is no socket,
// stays.
// Errors: fault.AlreadyExists when another process listens, fault.Conflict when
// something else is at the path, fault.Unavailable when it can't be made.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fault.Newf(fault.Unavailable, "the socket %s can't be looked at", path).WithCause(err)
	case st.Mode().Type() != fs.ModeSocket:
		return nil, fault.Newf(fault.Conflict, "%s exists and is not a socket", path)
	default:
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			_ = conn.Close()
			return nil, fault.Newf(fault.AlreadyExists, "another process listens on %s", path)
		}
		// Only a refused connection proves that nobody is there; a full backlog
		// or a lack of permission doesn't.
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fault.Newf(fault.Unavailable, "the socket %s can't be probed", path).WithCause(err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fault.Newf(fault.Unavailable, "the leftover socket %s can't be removed", path).WithCause(err)
		}
	}
	// The mode must hold from the first moment, not from a chmod after it; the
	// umask is the process's, so it is narrowed for this one call.
	old := syscall.Umask(0o117)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "the socket %s can't be made", path).WithCause(err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = ln.Close()
		return nil, fault.Newf(fault.Unavailable, "the socket %s can't be made", path).WithCause(err)
	}
	return ln, nil
}
