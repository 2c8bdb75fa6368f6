package tenant_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: Run and Refresh leave no goroutine behind, whatever a key server did.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
