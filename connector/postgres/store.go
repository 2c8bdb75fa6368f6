package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
)

const (
	// idleTime is short because a fleet of sidecars would hold thousands of
	// idle connections otherwise, which Postgres pays for in memory.
	idleTime       = 30 * time.Second
	connectTimeout = 2 * time.Second
	lifeTime       = 30 * time.Minute
)

// Options configure a Store.
type Options struct {
	URL      secret.Value     // postgres://... or a keyword string; holds the password
	MaxConns int32            // at least 1; 0: 4
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // the process's clock; nil: time.Now
}

// Store implements connector.Store on a pool of connections. It is safe for
// concurrent use.
type Store struct {
	pool          *pgxpool.Pool
	log           *slog.Logger
	now           func() time.Time
	committed     chan struct{}
	reads         atomic.Int64
	revisionReads atomic.Int64
}

var _ connector.Store = (*Store)(nil)

// Open prepares a Store. It does not dial: a process must be able to start
// while Postgres is away, and the first call connects.
// Errors: fault.InvalidArgument for a URL that can't be parsed.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := poolConfig(o)
	if err != nil {
		return nil, err
	}
	return newStore(ctx, o, config)
}

func newStore(ctx context.Context, o Options, config *pgxpool.Config) (*Store, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the Postgres options are not usable").WithCause(err)
	}
	s := &Store{pool: pool, log: o.Log, now: o.Now, committed: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

func poolConfig(o Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(o.URL.Reveal())
	if err != nil {
		// The cause stays behind: it quotes the URL, and its own redaction of
		// the password is best effort.
		return nil, fault.New(fault.InvalidArgument, "the Postgres URL is not valid")
	}
	config.MaxConns = o.MaxConns
	if config.MaxConns <= 0 {
		config.MaxConns = 4
	}
	config.MinConns, config.MinIdleConns = 0, 0
	config.MaxConnIdleTime = idleTime
	config.MaxConnLifetime = lifeTime
	config.MaxConnLifetimeJitter = lifeTime / 10
	config.HealthCheckPeriod = idleTime / 3
	// A ping before use would double the round trips of a resolve. A connection
	// that died while idle is found by its statement, which runs again (read).
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	tune(config.ConnConfig)
	return config, nil
}

// tune makes a connection fit for PgBouncer in transaction mode: no named
// statement and nothing cached about one survives a transaction.
func tune(c *pgx.ConnConfig) {
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	if c.ConnectTimeout <= 0 || c.ConnectTimeout > time.Minute {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "patchbay"
	}
}

// Close implements connector.Store. Idle connections close at once; calls in
// flight end by their own context.
func (s *Store) Close() error {
	s.pool.Reset()
	go s.pool.Close() // waits for calls in flight
	return nil
}

// Reads counts the resolution reads (Default, Defaults, Connector) so far.
func (s *Store) Reads() int64 { return s.reads.Load() }

// RevisionReads counts the readings of Revisions so far.
func (s *Store) RevisionReads() int64 { return s.revisionReads.Load() }

// Ping implements connector.Store.
func (s *Store) Ping(ctx context.Context) (at time.Time, err error) {
	err = s.readWithClock(ctx, scope{}, &at, `SELECT`, nil, func(pgx.Rows) error { return nil })
	return at, err
}

// scope is what row-level security is told about a transaction.
type scope struct {
	tenant  tenant.ID
	tenants []tenant.ID
	across  string // what of all tenants is seen, by a policy of its own: see the policies
	state   []byte // the hash of an OAuth2 state, which shows its row
}

// The scopes across tenants, which patchbay_admin alone may have.
const (
	acrossTenants = "tenants" // their records
	acrossGrants  = "grants"  // grants and their connectors
)

func (c scope) queue(ctx context.Context, b *pgx.Batch) {
	ids := make([]string, len(c.tenants))
	for i, id := range c.tenants {
		ids[i] = id.String()
	}
	b.Queue(`SELECT clock_timestamp(), set_config('app.tenant', $1, true), set_config('app.tenants', $2, true),
		set_config('app.scope', $3, true), set_config('app.oauth_state', $5, true),
		set_config('statement_timeout', coalesce(nullif($4, ''), current_setting('statement_timeout')), true)`,
		c.tenant.String(), strings.Join(ids, ","), c.across, timeLeft(ctx), hex.EncodeToString(c.state))
}

// timeLeft spells the context's remaining time in milliseconds, "" without a
// deadline: the server must not work on for a caller who has gone.
func timeLeft(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	return strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10)
}

// read is readWithClock for those who need no clock.
func (s *Store) read(ctx context.Context, c scope, sql string, args []any, scan func(pgx.Rows) error) error {
	var at time.Time
	return s.readWithClock(ctx, c, &at, sql, args, scan)
}

// readWithClock runs one statement. at is the database's clock just before the
// statement's snapshot: taken after it, an answer could look newer than it is.
func (s *Store) readWithClock(ctx context.Context, c scope, at *time.Time, sql string, args []any, scan func(pgx.Rows) error) error {
	return s.pipeline(ctx, c, at, statement{sql, args, scan})
}

// statement is one of a pipeline. scan gets each row and may be nil.
type statement struct {
	sql  string
	args []any
	scan func(pgx.Rows) error
}

// pipeline runs statements in one round trip with one Sync, which Postgres treats
// as one transaction: set_config holds for them and ends with it. Each sees what
// was committed before it began, and what those before it did.
func (s *Store) pipeline(ctx context.Context, c scope, at *time.Time, statements ...statement) error {
	begun, err := s.pipelineOnce(ctx, c, at, statements)
	// An answer that breaks off is not asked for again: its first rows are with
	// the caller already.
	if connectionLost(ctx, err) && !begun {
		// The server restarted, so the other idle connections are dead too.
		s.pool.Reset()
		_, err = s.pipelineOnce(ctx, c, at, statements)
	}
	if retryable(err) && ctx.Err() == nil {
		// A standby cancels what its replay runs into. Nothing is in conflict
		// for the caller: it may ask again.
		return fault.New(fault.Unavailable, "the database cancelled the statement, try again").WithCause(err)
	}
	return classify(ctx, err)
}

// pipelineOnce also tells whether a row was scanned.
func (s *Store) pipelineOnce(ctx context.Context, c scope, at *time.Time, statements []statement) (begun bool, err error) {
	var b pgx.Batch
	c.queue(ctx, &b)
	for _, st := range statements {
		b.Queue(st.sql, st.args...)
	}
	results := s.pool.SendBatch(ctx, &b)
	err = results.QueryRow().Scan(at, nil, nil, nil, nil, nil)
	*at = at.UTC()
	for i := 0; err == nil && i < len(statements); i++ {
		err = collect(results, func(rows pgx.Rows) error {
			if statements[i].scan == nil {
				return nil
			}
			begun = true
			return statements[i].scan(rows)
		})
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	return begun, err
}

// collect reads one statement's answer.
func collect(results pgx.BatchResults, scan func(pgx.Rows) error) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return unreadable(err)
		}
	}
	return rows.Err()
}

// unreadable marks an answer that arrived but made no sense, which is no outage.
func unreadable(err error) error {
	return fault.New(fault.Internal, "a stored record is not readable").WithCause(fmt.Errorf("scan: %w", err))
}
