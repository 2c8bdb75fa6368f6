package postgres

import (
	"testing"

	"github.com/patchbay-dev/patchbay/connector/storetest"
)

// The first wall. The second one, row-level security, is in wall_test.go.
func TestStatementsNameTheTenant(t *testing.T) {
	t.Parallel()
	storetest.Statements(t, ".", map[string]string{
		"FROM tenants t WHERE true":                         "the control plane's listing, by a policy of its own",
		"WHERE t.purge_at IS NOT NULL":                      "the control plane's listing of what is due, by the same policy",
		"FROM outbox m WHERE":                               "the relay carries every tenant's rows, by a policy of its own",
		"UPDATE outbox SET sent_at":                         "the relay marks what it has locked",
		"DELETE FROM idempotency_keys k WHERE k.expires_at": "housekeeping sweeps what has ended, by a policy of its own",
		"DELETE FROM audit a WHERE a.ctid":                  "housekeeping sweeps what is old, by a policy of its own",
		"DELETE FROM oauth_states s WHERE s.expires_at":     "housekeeping sweeps what has ended, by a policy of its own",
		"s.state_hash = $1 AND s.handle_hash IS NULL":       "who knows a state may see and answer its row, by a policy of its own",
		"AND c.state <> 'needs_":                            "the control plane looks for drift in all tenants, by a policy of its own",
	})
}
