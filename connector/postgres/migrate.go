package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const (
	versionTable = "patchbay_migrations"
	// migrationLock is the key of the advisory lock: "patchbay" in ASCII.
	migrationLock = 0x7061746368626179
)

// MigrationState is one migration, known to this build or found in the database.
type MigrationState struct {
	Version   int64
	Name      string // file name; "" for one that only a newer build knows
	Applied   bool
	AppliedAt time.Time // UTC; zero when not applied
}

// Migrate brings the schema up to date: roles first (see ensureRoles), then each migration in its
// own transaction, all under an advisory lock, so that any number of callers
// may start at once. url connects directly, not through a transaction pooler,
// which would part the lock from its connection.
// Errors: fault.PermissionDenied with the SQL that an administrator has to run;
// fault.Unavailable for a schema that is too new for this build.
func Migrate(ctx context.Context, url secret.Value, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	config, err := connConfig(url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }() // what had to last is committed
	// Before goose, which takes no lock where it finds nothing to apply.
	if err := refuseNewer(ctx, db, log); err != nil {
		return err
	}
	sources, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return fault.New(fault.Internal, "the embedded migrations are not readable").WithCause(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, sources, goose.WithTableName(versionTable),
		goose.WithSessionLocker(&locker{log: log}), goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fault.New(fault.Internal, "the embedded migrations are not usable").WithCause(err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return classify(ctx, err)
	}
	for _, r := range results {
		log.InfoContext(ctx, "migration applied", "version", r.Source.Version, "ms", r.Duration.Milliseconds())
	}
	return nil
}

func connConfig(url secret.Value) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the Postgres URL is not valid")
	}
	tune(config)
	return config, nil
}

// locker is goose's lock. It waits in the server instead of polling, and makes
// the roles once it holds the lock.
type locker struct{ log *slog.Logger }

func (l *locker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1::bigint)`, int64(migrationLock)); err != nil {
		return err
	}
	if err := ensureRoles(ctx, conn, l.log); err != nil {
		_ = l.SessionUnlock(ctx, conn)
		return err
	}
	return nil
}

// refuseNewer stops before a schema that this build must not touch. One version
// ahead is what a rolled-back program finds: compatible by promise, and its
// migration has nothing to do.
func refuseNewer(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	states, err := known()
	if err != nil {
		return err
	}
	own := states[len(states)-1].Version
	var found int64
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&found)
	switch {
	case stateOf(err) == stateUndefinedTable:
		return nil
	case err != nil:
		return classify(ctx, err)
	case found <= own:
		return nil
	case found == own+1:
		log.WarnContext(ctx, "the schema is newer than this build", "version", found, "known", own)
		return nil
	default:
		return checkVersion(own, found)
	}
}

func (l *locker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `SELECT pg_advisory_unlock($1::bigint)`, int64(migrationLock))
	return err
}

// MigrationStatus lists every migration by version. It writes nothing and works
// on an empty database too.
func MigrationStatus(ctx context.Context, url secret.Value) ([]MigrationState, error) {
	config, err := connConfig(url)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // only read from
	rows, _ := conn.Query(ctx, `SELECT version_id, tstamp FROM `+versionTable+` WHERE is_applied AND version_id > 0`)
	var version int64
	var at time.Time
	applied := map[int64]time.Time{}
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at.UTC()
		return nil
	})
	if err != nil && stateOf(err) != stateUndefinedTable {
		return nil, classify(ctx, err)
	}
	states, err := known()
	if err != nil {
		return nil, err
	}
	for i, s := range states {
		if at, ok := applied[s.Version]; ok {
			states[i].Applied, states[i].AppliedAt = true, at
			delete(applied, s.Version)
		}
	}
	for version, at := range applied {
		states = append(states, MigrationState{Version: version, Applied: true, AppliedAt: at})
	}
	slices.SortFunc(states, func(a, b MigrationState) int { return int(a.Version - b.Version) })
	return states, nil
}

// known lists the embedded migrations.
func known() ([]MigrationState, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fault.New(fault.Internal, "the embedded migrations are not readable").WithCause(err)
	}
	var states []MigrationState
	for _, path := range names {
		name := strings.TrimPrefix(path, "migrations/")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fault.New(fault.Internal, "a migration's name has no number").WithCause(err)
		}
		states = append(states, MigrationState{Version: version, Name: name})
	}
	return states, nil
}

// CheckSchema tells whether this build can work on the database's schema: its
// own version N, N-1 (a build that arrives before the migration), and N+1 (one
// that is still there after it: a migration never breaks its predecessor).
// Errors: fault.Unavailable, saying what to do; it passes when migrate has run.
func (s *Store) CheckSchema(ctx context.Context) error {
	states, err := known()
	if err != nil {
		return err
	}
	own := states[len(states)-1].Version
	var found int64
	err = s.read(ctx, scope{}, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`, nil,
		func(rows pgx.Rows) error { return rows.Scan(&found) })
	if err != nil {
		return err
	}
	return checkVersion(own, found)
}

func checkVersion(own, found int64) error {
	switch {
	case found < max(1, own-1):
		return fault.Newf(fault.Unavailable, "the database's schema is at version %d, this build needs %d: run sidecar migrate", found, own)
	case found > own+1:
		return fault.Newf(fault.Unavailable, "the database's schema is at version %d, this build knows %d: upgrade it", found, own)
	default:
		return nil
	}
}

// roles are the group roles that the schema grants to. Logins are members of
// one or more; a control plane needs admin and relay.
func roles() []string { return []string{"patchbay_sidecar", "patchbay_admin", "patchbay_relay"} }

// ensureRoles makes the group roles and makes the current user a member, so
// that a set-up with one login works: forced row-level security binds it too.
// Roles belong to the server, not to the database, so that the advisory lock
// does not keep two databases' migrations apart.
func ensureRoles(ctx context.Context, conn *sql.Conn, log *slog.Logger) error {
	for _, role := range roles() {
		var exists bool
		if err := conn.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			if err := repeat(ctx, conn, `CREATE ROLE `+role+` NOLOGIN`); err != nil {
				return roleFault(err)
			}
		}
		var member bool
		err := conn.QueryRowContext(ctx, `SELECT pg_has_role(current_user, $1, 'USAGE')`, role).Scan(&member)
		if err != nil {
			return err
		}
		if member {
			continue
		}
		err = repeat(ctx, conn, `GRANT `+role+` TO CURRENT_USER`)
		if stateOf(err) == statePrivilege {
			// Not fatal: where logins are apart, the owner needs no membership.
			log.WarnContext(ctx, "the migrating login is no member of a group role; where it also serves, an administrator has to grant it",
				"sql", `GRANT `+role+` TO <login>`)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repeat runs a statement on the shared role catalogue again when a migration
// of another database met it there.
func repeat(ctx context.Context, conn *sql.Conn, statement string) error {
	for attempt := 1; ; attempt++ {
		_, err := conn.ExecContext(ctx, statement)
		switch stateOf(err) {
		case stateDuplicateObject, stateUniqueViolation:
			return nil
		case "XX000": // "tuple concurrently updated"
			if attempt < 10 {
				if err := pause(ctx, attempt); err != nil {
					return err
				}
				continue
			}
		}
		return err
	}
}

func roleFault(err error) error {
	if stateOf(err) != statePrivilege {
		return err
	}
	var todo []string
	for _, role := range roles() {
		todo = append(todo, fmt.Sprintf("CREATE ROLE %s NOLOGIN;", role))
	}
	return fault.Newf(fault.PermissionDenied,
		"the login may not create roles; as an administrator run: %s", strings.Join(todo, " ")).
		WithCause(errors.Unwrap(err))
}
