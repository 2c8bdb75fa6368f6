package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

const (
	// readers bounds the pool: reads are short, and each connection has a page cache.
	readers = 4
	// busyTimeout bounds the wait for another process, in milliseconds.
	busyTimeout = "5000"
)

// Options are what a caller may inject. The zero Options are good.
type Options struct {
	Clock func() time.Time // nil: time.Now. It is the database's clock
	Log   *slog.Logger     // nil: silent
}

// Store implements connector.Store over one file.
type Store struct {
	write     *sql.DB // one connection: SQLite has one writer, and waiting here honours contexts
	read      *sql.DB
	clock     func() time.Time
	committed chan struct{}
	closed    atomic.Bool

	relaying sync.Mutex
	claimed  map[int64]bool // outbox rows that a relay of this process holds
}

var _ connector.Store = (*Store)(nil)

// Open opens the file at path, makes it (mode 0600) when it is not there, and
// brings its schema up to date. Errors: fault.Conflict for a file of a newer
// version or of something else; fault.Unavailable when it cannot be written or
// another process holds it.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "the store file %s has no absolute path", path).WithCause(err)
	}
	if err := create(abs); err != nil {
		return nil, err
	}
	s := &Store{clock: o.Clock, committed: make(chan struct{}, 1), claimed: map[int64]bool{}}
	if s.write, err = open(abs, 1, url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(" + busyTimeout + ")", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
	}); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, classifyCode(err))
	}
	if err := s.prepare(ctx, path, o.Log); err != nil {
		_ = s.write.Close() // the first error says more
		return nil, err
	}
	if s.read, err = open(abs, readers, url.Values{
		"_pragma": {"busy_timeout(" + busyTimeout + ")", "query_only(1)"},
	}); err != nil {
		_ = s.write.Close()
		return nil, fmt.Errorf("open %s: %w", path, classifyCode(err))
	}
	return s, nil
}

// create makes the file, so that its mode is ours and a directory that cannot
// be written gives the system's own reason. It never opens an existing one:
// closing a second descriptor would drop SQLite's locks.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // G703: the path is the operator's, and only a new file is made
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrExist):
		return nil
	default:
		return fault.Newf(fault.Unavailable, "the store file %s cannot be made", path).WithCause(err)
	}
}

func open(path string, conns int, query url.Values) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Ping implements connector.Store.
func (s *Store) Ping(ctx context.Context) (time.Time, error) {
	var one int
	if err := s.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return time.Time{}, s.classify(ctx, err)
	}
	return s.now(), nil
}

// Close implements connector.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// Readers first: the last connection to close folds the log into the file.
	if err := errors.Join(s.read.Close(), s.write.Close()); err != nil {
		return fmt.Errorf("close the store: %w", classifyCode(err))
	}
	return nil
}

// now is the database's clock, in the precision that it keeps.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// query reads rows of one statement, which SQLite answers from one moment.
func (s *Store) query(ctx context.Context, scan func(*sql.Rows) error, statement string, args ...any) error {
	return s.classify(ctx, queryOn(ctx, s.read, scan, statement, args...))
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func queryOn(ctx context.Context, q querier, scan func(*sql.Rows) error, statement string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
