package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncerServer is a pooler in transaction mode in front of a Postgres: two
// transactions of one client may run on two server connections, so nothing that
// belongs to a connection (SET, LISTEN, advisory locks) may be relied upon.
type PgBouncerServer struct {
	Port int

	private
	behind *PostgresServer
}

// PgBouncer is a pooler for this test alone, in front of pg. Each database and
// role share a pool of size connections.
func PgBouncer(t testing.TB, pg *PostgresServer, size int) *PgBouncerServer {
	t.Helper()
	bin, err := find("pgbouncer")
	if err != nil {
		refuse(t, "PgBouncer", err)
	}
	dir, err := newFolder("pgbouncer", true)
	if err != nil {
		t.Fatal(err)
	}
	s := &PgBouncerServer{behind: pg}
	s.private = private{dir: dir, probe: s.ping}
	t.Cleanup(s.end)
	// Roles other than this one are looked up in Postgres itself: tests make
	// them as they go.
	if err := os.WriteFile(filepath.Join(dir, "users.txt"), []byte("\"postgres\" \"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if s.Port, err = reservePort(); err != nil {
			break
		}
		name := filepath.Join(dir, "pgbouncer.ini")
		if err = os.WriteFile(name, []byte(s.config(size)), 0o644); err != nil {
			break
		}
		// It refuses root, as Postgres does.
		s.command = command{bin: bin, args: []string{name}, dir: dir, demoted: true, end: syscall.SIGINT}
		if err = s.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		t.Fatalf("PgBouncer: %v", err)
	}
	return s
}

func (s *PgBouncerServer) config(size int) string {
	return fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
auth_user = postgres
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
`, s.behind.Port, s.Port, filepath.Join(s.dir, "users.txt"), size)
}

// Through turns a connection string of the Postgres behind into one that goes
// through the pooler.
func (s *PgBouncerServer) Through(t testing.TB, direct string) string {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatalf("connection string: %v", err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", s.Port)
	return u.String()
}

func (s *PgBouncerServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
