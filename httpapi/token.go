package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
)

const (
	tokenReload = time.Second
	maxToken    = 4 << 10
)

// localToken is the optional second token, from a file. Only its digest is
// held: comparing digests takes the same time for every guess, of any length.
type localToken struct {
	path   string
	log    *slog.Logger
	digest atomic.Pointer[[sha256.Size]byte]
	next   atomic.Int64 // when to look at the file again, Unix nanoseconds
	broken atomic.Bool  // the last look failed, and was told
}

// newLocalToken errors with fault.InvalidArgument when the file can't be used:
// starting without a guard that was asked for would be worse than not starting.
func newLocalToken(path string, log *slog.Logger) (*localToken, error) {
	if path == "" {
		return nil, nil
	}
	t := &localToken{path: path, log: log}
	d, err := t.read()
	if err != nil {
		return nil, err
	}
	t.digest.Store(&d)
	t.next.Store(time.Now().Add(tokenReload).UnixNano())
	return t, nil
}

func (t *localToken) read() ([sha256.Size]byte, error) {
	st, err := os.Stat(t.path)
	switch {
	case err != nil: // reading says it
	case !st.Mode().IsRegular(): // opening a pipe would wait for its writer, and a request with it
		return [sha256.Size]byte{}, fault.New(fault.InvalidArgument, "local.token_file: not a regular file")
	case st.Size() > maxToken:
		return [sha256.Size]byte{}, fault.New(fault.InvalidArgument, "local.token_file: the file is larger than 4 KiB")
	}
	data, err := os.ReadFile(t.path)
	if err != nil {
		return [sha256.Size]byte{}, fault.New(fault.InvalidArgument, "local.token_file: the file can't be read").WithCause(err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return [sha256.Size]byte{}, fault.New(fault.InvalidArgument, "local.token_file: the file is empty")
	}
	return sha256.Sum256([]byte(text)), nil
}

// check compares a request's token. The file is read again at most once a
// second, content and all: Kubernetes swaps a symlink two folders up, which no
// time stamp of the file shows. A failed reading keeps the last good token.
func (t *localToken) check(given value) error {
	now := time.Now()
	if next := t.next.Load(); now.UnixNano() > next && t.next.CompareAndSwap(next, now.Add(tokenReload).UnixNano()) {
		if d, err := t.read(); err == nil {
			t.digest.Store(&d)
			t.broken.Store(false)
		} else if !t.broken.Swap(true) { // one line when it breaks, not one a second
			t.log.Warn("the local token can't be read again; the last good one stays", obs.FieldError, err)
		}
	}
	d := sha256.Sum256(given.text)
	if subtle.ConstantTimeCompare(d[:], t.digest.Load()[:]) != 1 || given.times != 1 {
		return fault.New(fault.Unauthenticated, "X-Patchbay-Token is missing or wrong")
	}
	return nil
}
