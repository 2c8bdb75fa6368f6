package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a Postgres of its own port and data. Authentication is
// trust: any role that exists may connect from loopback without a password.
type PostgresServer struct {
	Port int

	private
	bin  string
	next atomic.Int64
}

// Postgres is the server shared by the tests of this process.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return env.postgres.get(t, "PostgreSQL", func() (*PostgresServer, error) { return startPostgres() })
}

// NewPostgres is a server for this test alone, which may kill it. It is gone
// when the test ends. settings are "name=value" of postgresql.conf.
func NewPostgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	s, err := startPostgres(settings...)
	if err != nil {
		refuse(t, "PostgreSQL", err)
	}
	t.Cleanup(s.end)
	return s
}

func startPostgres(settings ...string) (*PostgresServer, error) {
	bin, err := FindPostgres()
	if err != nil {
		return nil, err
	}
	dir, err := newFolder("postgres", true)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := initdb(bin, dir, data); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s := &PostgresServer{bin: bin}
	s.private = private{dir: dir, probe: s.ping}
	for range 5 {
		if s.Port, err = reservePort(); err != nil {
			break
		}
		args := []string{"-D", data, "-p", fmt.Sprint(s.Port), "-k", dir,
			"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300",
			// Nothing here outlives the machine: a killed process loses
			// nothing without fsync, only a power cut would.
			"-c", "fsync=off", "-c", "full_page_writes=off",
			"-c", "shared_buffers=32MB", "-c", "timezone=UTC",
			// So that a test can ask when something was committed.
			"-c", "track_commit_timestamp=on"}
		for _, setting := range settings {
			args = append(args, "-c", setting)
		}
		s.command = command{bin: filepath.Join(bin, "postgres"), args: args, dir: dir, demoted: true, end: syscall.SIGINT}
		if err = s.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func initdb(bin, dir, data string) error {
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres",
		"--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: demotion()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// URL is a connection string for a role and a database of this server.
func (s *PostgresServer) URL(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: fmt.Sprintf("127.0.0.1:%d", s.Port),
		Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// SuperuserURL connects to the database postgres as the superuser. Row-level
// security doesn't bind it: tests of that use the owner and roles of their own.
func (s *PostgresServer) SuperuserURL() string { return s.URL("postgres", "postgres") }

// Bin is the folder of the server's programs (pg_dump may be there or not).
func (s *PostgresServer) Bin() string { return s.bin }

// NewDatabase makes an empty database with an owner of its own, who isn't a
// superuser but may create roles, and returns the owner's connection string.
// Both are dropped when the test ends.
func (s *PostgresServer) NewDatabase(t testing.TB) (ownerURL string) {
	t.Helper()
	// Roles belong to the whole server: the process id keeps the names apart
	// where a test points several processes at one server.
	name := fmt.Sprintf("t%d_%d", os.Getpid(), s.next.Add(1))
	if err := s.Exec("CREATE ROLE "+name+" LOGIN CREATEROLE", "CREATE DATABASE "+name+" OWNER "+name); err != nil {
		t.Fatalf("make database: %v", err)
	}
	t.Cleanup(func() {
		// A test may leave its private server dead; then there is nothing to
		// drop. A role that still owns something elsewhere stays.
		_ = s.Exec("DROP DATABASE IF EXISTS "+name+" WITH (FORCE)", "DROP ROLE IF EXISTS "+name)
	})
	return s.URL(name, name)
}

// Exec runs statements as the superuser, each in its own transaction.
func (s *PostgresServer) Exec(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperuserURL())
	if err != nil {
		return fmt.Errorf("connect as superuser: %w", err)
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(statement, "\n", 2)[0], err)
		}
	}
	return nil
}

func (s *PostgresServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperuserURL())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
