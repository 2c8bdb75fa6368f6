package postgres

import (
	"testing"

	"github.com/patchbay-dev/patchbay/connector/storetest"
)

// The first wall. The second one, row-level security, is in wall_test.go.
func TestStatementsNameTheTenant(t *testing.T) {
	t.Parallel()
	storetest.Statements(t, ".", map[string]string{
		"FROM tenants t ORDER BY t.id": "the control plane's listing, by a policy of its own",
		"FROM outbox m WHERE":          "the relay carries every tenant's rows, by a policy of its own",
		"UPDATE outbox SET sent_at":    "the relay marks what it has locked",
		"AND c.state <> 'needs_":       "the control plane looks for drift in all tenants, by a policy of its own",
	})
}
