package testenv_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestPgBouncerSharesOneConnectionByTransaction(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pooler := testenv.PgBouncer(t, pg, 1)
	url := pooler.Through(t, pg.NewDatabase(t)) + "&default_query_exec_mode=exec"
	a, b := connect(t, url), connect(t, url)

	pid := func(conn *pgx.Conn) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if pid(a) != pid(b) {
		t.Error("two idle clients hold two server connections: not transaction mode")
	}
	// What a session sets, the next client finds: the trap that the mode is
	// here to show.
	if _, err := a.Exec(t.Context(), "SET application_name = 'leak'"); err != nil {
		t.Fatal(err)
	}
	var name string
	if err := b.QueryRow(t.Context(), "SELECT current_setting('work_mem')").Scan(&name); err != nil || name == "" {
		t.Fatalf("setting %q, %v", name, err)
	}
}
