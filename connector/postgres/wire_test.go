package postgres

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// waits counts what a client waits for: a Sync, a Flush and a simple query each
// end in an answer that must arrive before the client goes on.
type waits struct{ n atomic.Int64 }

// through returns url with a proxy in between that counts into w.
func (w *waits) through(t *testing.T, to string) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
			go func() { w.forward(client, server); _ = server.Close() }()
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

// forward copies the client's messages (PostgreSQL, Frontend/Backend Protocol).
func (w *waits) forward(client io.Reader, server io.Writer) {
	in := bufio.NewReader(client)
	startup := true
	for {
		head := make([]byte, 5)
		if startup { // has no type byte
			head = head[1:]
		}
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if !startup && (head[0] == 'S' || head[0] == 'H' || head[0] == 'Q') {
			w.n.Add(1)
		}
		startup = false
		if _, err := server.Write(append(head, body...)); err != nil {
			return
		}
	}
}

// A resolve is one pipelined batch with one Sync, and so is every other read.
func TestOneRoundTrip(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	ids := seed(t, open(t, owner))
	var w waits
	store := open(t, w.through(t, owner))
	ctx := within(t, time.Minute)
	if _, err := store.Ping(ctx); err != nil { // the connection is open from here on
		t.Fatal(err)
	}
	r := store.Tenant(acme)
	for name, read := range map[string]func() error{
		"default":       func() error { _, err := r.Default(ctx, hq, "storage"); return err },
		"none":          func() error { _, err := r.Default(ctx, hq, "email"); return err },
		"defaults":      func() error { _, err := r.Defaults(ctx, hq); return err },
		"connector":     func() error { _, err := r.Connector(ctx, hq, ids[acme]); return err },
		"revisions":     func() error { _, err := store.Revisions(ctx, []tenant.ID{acme, globex}); return err },
		"unsent":        func() error { _, err := store.Unsent(ctx, time.Second); return err },
		"sent":          func() error { _, err := store.Sent(ctx, time.Hour, 0, 10); return err },
		"list":          func() error { _, err := r.List(ctx, connector.Filter{}); return err },
		"no tenant":     func() error { _, err := store.Tenant(tenant.MustID("none")).Default(ctx, hq, "storage"); return err },
		"ping":          func() error { _, err := store.Ping(ctx); return err },
		"organizations": func() error { _, err := r.Organizations(ctx, connector.OrganizationFilter{}); return err },
		"grant":         func() error { _, err := store.Grant(ctx, acme, ids[acme]); return err },
		"acquire": func() error {
			_, _, err := store.AcquireGrant(ctx, acme, ids[acme], "one", time.Minute)
			return err
		},
		"renew":   func() error { _, err := store.RenewGrant(ctx, acme, ids[acme], "one", 1, time.Minute); return err },
		"release": func() error { return store.ReleaseGrant(ctx, acme, ids[acme], "one", 1) },
		"settle": func() error {
			_, err := store.SettleGrant(ctx, acme, ids[acme], 5, connector.GrantActive)
			return err
		},
		"drift": func() error { _, err := store.DriftedGrants(ctx, 10); return err },
		"audit": func() error {
			return store.RecordAudit(ctx, acme, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"})
		},
	} {
		before := w.n.Load()
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := w.n.Load() - before; n != 1 {
			t.Errorf("%s: %d round trips, want 1", name, n)
		}
	}
}

// A fleet holds no connections that it does not use.
func TestIdleConnectionsClose(t *testing.T) {
	t.Parallel()
	owner := newDatabase(t, testenv.Postgres(t))
	o := Options{URL: secretOf(owner), MaxConns: 8}
	config, err := poolConfig(o)
	if err != nil {
		t.Fatal(err)
	}
	if config.MaxConnIdleTime != 30*time.Second || config.HealthCheckPeriod > 10*time.Second || config.MinConns+config.MinIdleConns != 0 {
		t.Errorf("idle %v, checked every %v, at least %d", config.MaxConnIdleTime, config.HealthCheckPeriod, config.MinConns+config.MinIdleConns)
	}
	config.MaxConnIdleTime, config.HealthCheckPeriod = 50*time.Millisecond, 10*time.Millisecond
	s, err := newStore(t.Context(), o, config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.pool.Stat().TotalConns() != 0 {
		t.Error("Open dials")
	}
	if _, err := s.Ping(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "idle connections are closed", func() bool { return s.pool.Stat().TotalConns() == 0 })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// Whatever ended a pooled connection while it was idle, the next caller does not
// see it.
func TestConnectionsEndedByTheServer(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	store := open(t, owner)
	seed(t, store)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	name := u.User.Username()
	busy := func() bool {
		got, err := column(t, server.SuperuserURL(), "", `SELECT pid::text FROM pg_stat_activity WHERE usename = '`+name+`'`)
		return err == nil && len(got) > 0
	}
	calls := map[string]func() error{
		"read": func() error {
			_, err := store.Tenant(acme).Default(within(t, 10*time.Second), hq, "storage")
			return err
		},
		"write": func() error {
			_, err := store.Change(within(t, 10*time.Second), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}},
				func(context.Context, connector.Tx) error { return nil })
			return err
		},
		"sweep": func() error { _, err := store.SweepOutbox(within(t, 10*time.Second), time.Hour); return err },
	}
	terminate := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + name + `'`
	for what, call := range calls { // 57P01
		if err := errors.Join(call(), server.Exec(terminate), call()); err != nil {
			t.Errorf("%s after a terminated connection: %v", what, err)
		}
	}
	if err := server.Exec(`ALTER ROLE `+name+` SET idle_session_timeout = '20ms'`, terminate); err != nil {
		t.Fatal(err)
	}
	for what, call := range calls { // 57P05
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		eventually(t, "the server ends idle sessions", func() bool { return !busy() })
		if err := call(); err != nil {
			t.Errorf("%s after an idle session's end: %v", what, err)
		}
	}
}

// A process that hangs between two statements holds its tenant's lock no longer
// than its caller's time.
func TestAbandonedTransaction(t *testing.T) {
	t.Parallel()
	store := open(t, newDatabase(t, testenv.Postgres(t)))
	seed(t, store)
	change := connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}
	_, err := store.Change(within(t, 200*time.Millisecond), change, func(context.Context, connector.Tx) error {
		// Another process writes meanwhile; this one is deaf to its context.
		_, err := store.Change(within(t, 30*time.Second), change, func(context.Context, connector.Tx) error { return nil })
		if err != nil {
			t.Errorf("the lock is never freed: %v", err)
		}
		return nil
	})
	if fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Errorf("the abandoned change: %v", err)
	}
}

// After a failover the connections lead to a standby: reads go on, writes are an
// outage that ends when the primary is back, without a restart.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	ids := seed(t, open(t, owner))
	store := open(t, owner)
	write := func() error {
		_, err := store.Change(within(t, 10*time.Second), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}},
			func(context.Context, connector.Tx) error { return nil })
		return err
	}
	if err := server.Exec(`ALTER DATABASE ` + u.Path[1:] + ` SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"change": write,
		"test": func() error {
			return store.RecordTest(within(t, 10*time.Second), acme, ids[acme], 1, "error", nil)
		},
		"relay": func() error {
			_, err := store.Relay(within(t, 10*time.Second), 9, func(context.Context, []connector.Message) error { return nil })
			return err
		},
		"sweep": func() error { _, err := store.SweepOutbox(within(t, 10*time.Second), 0); return err },
	} {
		if err := call(); fault.CodeOf(err) != fault.Unavailable || stateOf(err) != stateReadOnly {
			t.Errorf("%s on a standby: %v", name, err)
		}
		if s, err := store.Tenant(acme).Default(within(t, 10*time.Second), hq, "storage"); err != nil || s.Connector == nil {
			t.Errorf("a read on a standby: %v", err)
		}
	}
	_ = write() // lets go of the standby's connections
	if err := server.Exec(`ALTER DATABASE ` + u.Path[1:] + ` SET default_transaction_read_only = off`); err != nil {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Errorf("with the primary back: %v", err)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, row := range []struct {
		name string
		err  error
		want fault.Code
	}{
		{"a broken connection", io.ErrUnexpectedEOF, fault.Unavailable},
		{"unique_violation", &pgconn.PgError{Code: "23505"}, fault.Conflict},
		{"foreign_key_violation", &pgconn.PgError{Code: "23503"}, fault.Conflict},
		{"check_violation", &pgconn.PgError{Code: "23514"}, fault.InvalidArgument},
		{"not_null_violation", &pgconn.PgError{Code: "23502"}, fault.InvalidArgument},
		{"untranslatable_character", &pgconn.PgError{Code: "22P05"}, fault.InvalidArgument},
		{"serialization_failure", &pgconn.PgError{Code: "40001"}, fault.Conflict},
		{"deadlock_detected", &pgconn.PgError{Code: "40P01"}, fault.Conflict},
		{"lock_not_available", &pgconn.PgError{Code: "55P03"}, fault.Conflict},
		{"query_canceled", &pgconn.PgError{Code: "57014"}, fault.DeadlineExceeded},
		{"idle_in_transaction_session_timeout", &pgconn.PgError{Code: "25P03"}, fault.DeadlineExceeded},
		{"read_only_sql_transaction", &pgconn.PgError{Code: "25006"}, fault.Unavailable},
		{"admin_shutdown", &pgconn.PgError{Code: "57P01"}, fault.Unavailable},
		{"cannot_connect_now", &pgconn.PgError{Code: "57P03"}, fault.Unavailable},
		{"too_many_connections", &pgconn.PgError{Code: "53300"}, fault.Unavailable},
		{"disk_full", &pgconn.PgError{Code: "53100"}, fault.Unavailable},
		{"io_error", &pgconn.PgError{Code: "58030"}, fault.Unavailable},
		{"connection_failure", &pgconn.PgError{Code: "08006"}, fault.Unavailable},
		{"invalid_password", &pgconn.PgError{Code: "28P01"}, fault.Unavailable},
		{"no database", &pgconn.PgError{Code: "3D000"}, fault.Unavailable},
		{"no schema", &pgconn.PgError{Code: "42P01"}, fault.Unavailable},
		{"no right", &pgconn.PgError{Code: "42501", Routine: "aclcheck_error"}, fault.Unavailable},
		{"row-level security", &pgconn.PgError{Code: "42501", Routine: "ExecWithCheckOptions"}, fault.Internal},
		{"syntax_error", &pgconn.PgError{Code: "42601"}, fault.Internal},
		{"data_corrupted", &pgconn.PgError{Code: "XX001"}, fault.Internal},
		{"a fault", fault.New(fault.NotFound, "x"), fault.NotFound},
	} {
		if got := fault.CodeOf(classify(t.Context(), errors.Join(row.err))); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	if got := fault.CodeOf(classify(ended, io.ErrUnexpectedEOF)); got != fault.DeadlineExceeded {
		t.Errorf("after the caller's time: %s", got)
	}
}

// A login without its roles is the operator's to mend, and says so.
func TestLoginWithoutRoles(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	owner := newDatabase(t, server)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:] + "_bare"
	if err := server.Exec("CREATE ROLE " + name + " LOGIN"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Exec("DROP ROLE " + name) })
	_, err = open(t, server.URL(name, u.Path[1:])).Tenant(acme).Default(within(t, 10*time.Second), hq, "storage")
	if fault.CodeOf(err) != fault.Unavailable || stateOf(err) == "" {
		t.Errorf("%v", err)
	}
	var pg *pgconn.PgError
	// What the classification of refused rows relies on.
	err = open(t, owner).read(within(t, 10*time.Second), scope{tenant: acme},
		`INSERT INTO organizations (tenant_id, id, name, active) VALUES ('globex', 'x', 'x', true)`, nil, func(pgx.Rows) error { return nil })
	if !errors.As(err, &pg) || pg.Code != statePrivilege || fault.CodeOf(err) != fault.Internal {
		t.Errorf("a row of another tenant: %v", err)
	}
}
