package sqlite

import (
	"testing"

	"github.com/patchbay-dev/patchbay/connector/storetest"
)

// There is no row-level security here: this is the only wall.
func TestStatementsNameTheTenant(t *testing.T) {
	t.Parallel()
	storetest.Statements(t, ".", map[string]string{
		"FROM tenants t WHERE true":                     "the control plane's listing",
		"WHERE t.purge_at IS NOT NULL":                  "the control plane's listing of what is due",
		"FROM outbox x WHERE":                           "the relay carries every tenant's rows",
		"UPDATE outbox SET sent_at":                     "the relay marks what it has claimed",
		"DELETE FROM outbox WHERE":                      "housekeeping sweeps every tenant's sent rows",
		"DELETE FROM idempotency_keys WHERE expires_at": "housekeeping sweeps what has ended",
		"DELETE FROM audit WHERE id IN":                 "housekeeping sweeps what is old",
		"DELETE FROM oauth_states WHERE expires_at":     "housekeeping sweeps what has ended",
		"s.state_hash = ?1 AND s.handle_hash IS NULL":   "who knows a state may see its row",
		"state_hash = ?1 AND handle_hash IS NULL":       "who knows a state may answer it",
		"AND c.state <> 'needs_":                        "the control plane looks for drift in all tenants",
	})
}
