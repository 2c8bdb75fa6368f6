package testenv

import (
	"os"
	"sync"
	"testing"
)

// env is what this test process has started. It is package state on purpose:
// a server is shared by all tests of a process, and nothing else lives that
// long.
var env environment

type environment struct {
	mu    sync.Mutex
	stops []func()
	files []*os.File // locks that must outlive garbage collection

	postgres shared[*PostgresServer]
	redis    shared[*RedisServer]
	vault    shared[*VaultServer]
	s3       shared[*S3Server]
	mail     shared[*MailServer]
}

// shared is a server of the whole process, started when the first test needs it. A
// failure is remembered: every test that needs the server reports it, none tries
// again for a minute.
type shared[T interface{ end() }] struct {
	once   sync.Once
	server T
	err    error
}

// get returns the server, which ends with the process's tests, or ends the test
// where what it is can't be had.
func (s *shared[T]) get(t testing.TB, what string, start func() (T, error)) T {
	t.Helper()
	s.once.Do(func() {
		if s.server, s.err = start(); s.err == nil {
			env.atEnd(s.server.end)
		}
	})
	if s.err != nil {
		refuse(t, what, s.err)
	}
	return s.server
}

func (e *environment) atEnd(stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stops = append(e.stops, stop)
}

func (e *environment) keep(f *os.File) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.files = append(e.files, f)
}

// Main runs the tests of a package, then stops every shared server, removes
// its data and exits. It is the whole of a TestMain.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop ends every shared server and removes its data. For a TestMain that has
// more to do than Main; no test may run any more.
func Stop() {
	env.mu.Lock()
	stops := env.stops
	env.stops = nil
	env.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// missing ends the test because a server can't be had: as a failure in CI,
// where a skipped test would go unnoticed, and as a skip elsewhere.
func missing(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" && os.Getenv("CI") != "false" {
		t.Fatalf("%s is needed: %v", what, err)
	}
	t.Skipf("%s is needed: %v\nrun: go run ./internal/testenv/setup", what, err)
}
