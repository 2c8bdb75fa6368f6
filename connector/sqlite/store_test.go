package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/storetest"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(t testing.TB) connector.Store {
			return openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{})
		},
		Force: func(t testing.TB, s connector.Store, tn tenant.ID, id connector.ID, table, set string) error {
			store := s.(*Store)
			key := map[string]string{"connectors": "id", "connector_params": "connector_id", "oauth_grants": "connector_id"}[table]
			_, err := store.write.ExecContext(t.Context(), `UPDATE `+table+` SET `+set+` WHERE tenant_id = ?1 AND `+key+` = ?2`,
				tn.String(), id.String())
			return store.classify(t.Context(), err)
		},
	})
}

func openAt(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
