package sqlite

import (
	"context"
	"database/sql"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// A file of the build before keeps what is in it.
func TestFileOfTheSchemaBefore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	id := connector.NewID()
	for _, statement := range []string{
		`INSERT INTO tenants VALUES ('acme', NULL, 'Acme', 'ready', 0, 5, 1, 1)`,
		`INSERT INTO connectors VALUES ('acme', ?1, 'x', 'S3', 'storage', 's3', 1, NULL, 'connected', 1, 1, 0, 0,
			'01ARZ3NDEKTSV4RRFFQ69G5FAV', NULL, 3, 1, 1, NULL)`,
		`INSERT INTO connector_params VALUES ('acme', ?1, 'bucket', '"b"', '"old"', NULL, 'import', 7),
			('acme', ?1, 'secret_access_key', NULL, NULL, 2, 'api', 8)`,
		`INSERT INTO oauth_grants VALUES ('acme', ?1, 'one', 4, 99, 2, 'active', 9)`,
		`INSERT INTO audit VALUES (1, 'acme', 1, 'test', 'connector.create', ?1, 'ok', '', '["name"]')`,
	} {
		if _, err := db.ExecContext(t.Context(), statement, id.String()); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path, Options{})
	got, err := s.Tenant(acme).Default(t.Context(), tenant.OrganizationID{}, "storage")
	if err != nil || got.Connector == nil || got.GrantVersion != 2 || got.Grant != connector.GrantActive {
		t.Fatalf("%+v %v", got, err)
	}
	params := map[string]connector.Param{"bucket": {Value: "b", Imported: "old", Writer: connector.WriterImport, UpdatedAt: instant(7)}}
	secrets := map[string]connector.SecretInfo{"secret_access_key": {Version: 2, Writer: connector.WriterAPI, UpdatedAt: instant(8)}}
	if !reflect.DeepEqual(got.Connector.Params, params) || !reflect.DeepEqual(got.Connector.Secrets, secrets) {
		t.Errorf("%+v", got.Connector)
	}
	row, err := s.Grant(t.Context(), acme, id)
	if err != nil || row.Owner != "one" || row.Epoch != 4 || !row.Until.Equal(instant(99)) {
		t.Errorf("%+v %v", row, err)
	}
	trail, err := s.Tenant(acme).Audit(t.Context(), connector.AuditFilter{Limit: 10})
	if err != nil || len(trail) != 1 || trail[0].Note != "" || trail[0].Fields[0] != "name" {
		t.Errorf("%+v %v", trail, err)
	}
	for _, check := range []string{"integrity_check", "foreign_key_check"} {
		var found string
		err := s.write.QueryRow(`PRAGMA ` + check).Scan(&found)
		if check == "integrity_check" && (err != nil || found != "ok") || check == "foreign_key_check" && err != sql.ErrNoRows {
			t.Errorf("%s: %s %v", check, found, err)
		}
	}
	// The tables that were written anew still go with their connector.
	if _, err := s.write.ExecContext(t.Context(), `DELETE FROM connectors`); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.write.QueryRow(`SELECT (SELECT count(*) FROM connector_params) + (SELECT count(*) FROM oauth_grants)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows of a connector that is gone: %v", left, err)
	}
	_, err = s.write.ExecContext(t.Context(), `INSERT INTO oauth_grants VALUES ('acme', 'nobody', NULL, 0, NULL, 0, 'active', 0)`)
	if fault.CodeOf(s.classify(t.Context(), err)) != fault.Conflict {
		t.Errorf("the grant of no connector: %v", err)
	}
}

// A lease lives by the store's clock.
func TestLeaseByTheClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Clock: func() time.Time { return now }})
	c := named("x")
	_, err := s.Change(t.Context(), connector.Change{Actor: "test", Create: []connector.Tenant{{ID: acme, Name: "A", Status: connector.StatusReady}}},
		func(ctx context.Context, tx connector.Tx) error {
			if err := tx.Tenant(acme).Insert(ctx, c); err != nil {
				return err
			}
			return tx.Tenant(acme).PutGrant(ctx, c.ID, 1)
		})
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		later time.Duration
		owner string
		want  bool
	}{
		{0, "one", true}, {time.Minute - time.Microsecond, "two", false}, {time.Microsecond, "two", true},
		{-time.Hour, "one", false}, {time.Hour + time.Minute, "one", true},
	} {
		now = now.Add(step.later)
		row, acquired, err := s.AcquireGrant(t.Context(), acme, c.ID, step.owner, time.Minute)
		if err != nil || acquired != step.want || !row.At.Equal(now) || acquired && !row.Until.Equal(now.Add(time.Minute)) {
			t.Errorf("step %d: acquired %v, %+v: %v", i, acquired, row, err)
		}
	}
}

func TestDriftPlan(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{})
	rows, err := s.read.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+driftedSQL, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	all := strings.Join(plan, "\n")
	if rows.Err() != nil || !strings.Contains(all, "oauth_grants_refused") || !strings.Contains(all, "connectors_waiting") {
		t.Errorf("%s %v", all, rows.Err())
	}
}
