package httpapi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// TestLocalTokenIsAFile: a pipe would make the start wait, or a request.
func TestLocalTokenIsAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newLocalToken(path, testLog(&lockedBuffer{})); !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("got %v", err)
	}
}

// TestLocalTokenTellsOnce: a broken file is one line, and one more when it breaks
// again.
func TestLocalTokenTellsOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	good := func() {
		if err := os.WriteFile(path, []byte("good"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good()
	var log lockedBuffer
	token, err := newLocalToken(path, testLog(&log))
	if err != nil {
		t.Fatal(err)
	}
	look := func(times int) {
		for range times {
			token.next.Store(0) // due
			if err := token.check(value{[]byte("good"), 1}); err != nil {
				t.Error(err)
			}
		}
	}
	for range 2 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		look(5)
		good()
		look(1)
	}
	if n := strings.Count(log.String(), "local token"); n != 2 {
		t.Errorf("%d lines for two breaks:\n%s", n, log.String())
	}
}
