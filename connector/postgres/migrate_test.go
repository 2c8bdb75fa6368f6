package postgres

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Replicas of a deployment migrate at once, and so do several databases of a
// server, which share the roles but not the lock.
func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	var wg sync.WaitGroup
	for range 3 {
		owner := server.NewDatabase(t)
		for range 3 {
			wg.Go(func() {
				if err := Migrate(within(t, time.Minute), secretOf(owner), nil); err != nil {
					t.Errorf("migrate: %v", err)
				}
			})
		}
	}
	wg.Wait()
}

func TestMigrationStatus(t *testing.T) {
	t.Parallel()
	owner := testenv.Postgres(t).NewDatabase(t)
	ctx := within(t, time.Minute)
	store := open(t, owner)
	if err := store.CheckSchema(ctx); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), "sidecar migrate") {
		t.Errorf("an empty database: %v", err)
	}
	before, err := MigrationStatus(ctx, secretOf(owner))
	if err != nil || len(before) == 0 || before[0].Applied || before[0].Name != "0001_initial.sql" {
		t.Fatalf("before: %+v %v", before, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := Migrate(ctx, secretOf(owner), nil); err != nil {
			t.Fatal(err)
		}
	}
	after, err := MigrationStatus(ctx, secretOf(owner))
	if err != nil || len(after) != len(before) || !after[0].Applied || time.Since(after[0].AppliedAt) > time.Hour {
		t.Errorf("after: %+v %v", after, err)
	}
	if err := store.CheckSchema(ctx); err != nil {
		t.Errorf("a migrated database: %v", err)
	}
	// A newer build has been here: one version ahead is what a roll-back finds.
	for version, fine := range map[int64]bool{own(t) + 1: true, own(t) + 2: false} {
		other := testenv.Postgres(t).NewDatabase(t)
		if err := Migrate(ctx, secretOf(other), nil); err != nil {
			t.Fatal(err)
		}
		newer := open(t, other)
		for v := own(t) + 1; v <= version; v++ {
			as(t, newer, tenant.ID{}, `INSERT INTO patchbay_migrations (version_id, is_applied) VALUES ($1, true)`, v)
		}
		for what, err := range map[string]error{"migrate": Migrate(ctx, secretOf(other), nil), "a store": newer.CheckSchema(ctx)} {
			if fine != (err == nil) || !fine && (fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), "upgrade it")) {
				t.Errorf("%s at schema version %d: %v", what, version, err)
			}
		}
		states, err := MigrationStatus(ctx, secretOf(other))
		last := states[len(states)-1]
		if err != nil || last.Version != version || last.Name != "" || !last.Applied {
			t.Errorf("status at schema version %d: %+v %v", version, states, err)
		}
	}
}

// own is this build's schema version.
func own(t *testing.T) int64 {
	t.Helper()
	states, err := known()
	if err != nil {
		t.Fatal(err)
	}
	return states[len(states)-1].Version
}

// Without the right to make roles the error says what an administrator runs,
// and running just that is enough.
func TestMigrateWithoutCreateRole(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	owner := server.NewDatabase(t)
	name := strings.TrimPrefix(owner[strings.LastIndex(owner, "/"):strings.Index(owner, "?")], "/")
	if err := server.Exec("ALTER ROLE " + name + " NOCREATEROLE"); err != nil {
		t.Fatal(err)
	}
	err := Migrate(within(t, time.Minute), secretOf(owner), nil)
	_, todo, ok := strings.Cut(messageOf(err), "run: ")
	if fault.CodeOf(err) != fault.PermissionDenied || !ok {
		t.Fatalf("without CREATEROLE: %v", err)
	}
	for statement := range strings.SplitSeq(strings.TrimSuffix(todo, ";"), ";") {
		if err := server.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := Migrate(within(t, time.Minute), secretOf(owner), nil); err != nil {
		t.Errorf("with the roles made: %v", err)
	}
}

func messageOf(err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		return ""
	}
	return fault.Message(e)
}

func TestCheckVersion(t *testing.T) {
	for _, row := range []struct {
		name       string
		own, found int64
		ok         bool
	}{
		{"never migrated", 1, 0, false},
		{"its own", 1, 1, true},
		{"before the migration", 3, 2, true},
		{"two behind", 3, 1, false},
		{"after the next migration", 3, 4, true},
		{"two ahead", 3, 5, false},
	} {
		if err := checkVersion(row.own, row.found); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
