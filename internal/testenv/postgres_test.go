package testenv_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	if pg != testenv.Postgres(t) {
		t.Fatal("the shared server was started twice")
	}
	a, b := connect(t, pg.NewDatabase(t)), connect(t, pg.NewDatabase(t))
	if _, err := a.Exec(t.Context(), "CREATE TABLE marks (n int)"); err != nil {
		t.Fatalf("owner can't create: %v", err)
	}
	var super, seen bool
	if err := b.QueryRow(t.Context(), "SELECT to_regclass('marks') IS NOT NULL, rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&seen, &super); err != nil {
		t.Fatal(err)
	}
	if seen {
		t.Error("a table of one database is visible in the other")
	}
	if super {
		t.Error("the owner is a superuser: row-level security would not bind it")
	}
}

func TestKilledPostgresComesBackWithItsData(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t)
	url := pg.NewDatabase(t)
	conn := connect(t, url)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE marks AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	for _, down := range []struct {
		name string
		do   func()
	}{{"kill", pg.Kill}, {"stop", pg.Stop}} {
		down.do()
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Fatalf("%s: it still answers", down.name)
		}
		pg.Start(t)
		var n int
		if err := connect(t, url).QueryRow(t.Context(), "SELECT n FROM marks").Scan(&n); err != nil || n != 7 {
			t.Fatalf("%s: read back %d, %v", down.name, n, err)
		}
	}
}

func TestPausedPostgresHangs(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t)
	conn := connect(t, pg.NewDatabase(t))
	answer := make(chan error, 1)
	pg.Pause()
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	pg.Resume()
	select {
	case err := <-answer:
		if err != nil {
			t.Fatalf("after Resume: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no answer after Resume")
	}
}
