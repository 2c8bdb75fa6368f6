package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// TestTable walks every code. The statuses are those of the published table;
// one that is missing here, or that falls through to internal, fails.
func TestTable(t *testing.T) {
	t.Parallel()
	want := map[fault.Code]string{
		fault.InvalidArgument: "422 invalid_argument", fault.Malformed: "400 invalid_argument", fault.SecretRequired: "422 secret_required",
		fault.Unauthenticated: "401 unauthenticated", fault.PermissionDenied: "403 permission_denied", fault.TenantSuspended: "403 tenant_suspended",
		fault.NotFound: "404 not_found", fault.NoDefaultConnector: "404 no_default_connector", fault.UnknownCategory: "404 unknown_category",
		fault.AlreadyExists: "409 already_exists", fault.Conflict: "409 conflict", fault.Inactive: "409 inactive",
		fault.StaleVersion: "412 stale_version", fault.PreconditionRequired: "428 precondition_required",
		fault.NeedsReauthorization: "424 needs_reauthorization", fault.RateLimited: "429 rate_limited", fault.Unavailable: "503 unavailable",
		fault.DeadlineExceeded: "504 deadline_exceeded", fault.MethodNotAllowed: "405 method_not_allowed", fault.NotAcceptable: "406 not_acceptable",
		fault.UnsupportedMediaType: "415 unsupported_media_type", fault.TooLarge: "413 too_large", fault.HeaderTooLarge: "431 too_large",
		fault.Internal: "500 internal",
	}
	for _, code := range append(fault.Codes(), "never-heard-of") {
		err := fmt.Errorf("wrapped: %w", fault.New(code, "public").WithCause(errors.New("canary-cause")).
			WithViolations(fault.Violation{Pointer: "/x", Code: "y", Message: "z"}))
		p := Of(err, "id")
		w, ok := want[code]
		if !ok && code != "never-heard-of" {
			t.Errorf("%s is not in this test", code)
		}
		if !ok {
			w = "500 internal"
		}
		if got := fmt.Sprintf("%d %s", p.Status, p.Code); got != w {
			t.Errorf("%s: %s, want %s", code, got, w)
		}
		if p.Type != problemType+p.Code || p.Title == "" || p.RequestID != "id" || strings.Contains(fmt.Sprint(p), "canary-cause") {
			t.Errorf("%s: %+v", code, p)
		}
		if p.Status == 500 && (p.Detail != InternalDetail || len(p.Errors) != 0) || p.Status != 500 && (p.Detail != "public" || len(p.Errors) != 1) {
			t.Errorf("%s: detail %q, errors %v", code, p.Detail, p.Errors)
		}
		// Every member is there, with a bare code too.
		for _, err := range []error{err, code} {
			var members map[string]any
			text, _ := json.Marshal(Of(err, "id"))
			if err := json.Unmarshal(text, &members); err != nil || len(members) != 7 || members["detail"] == "" || members["errors"] == nil {
				t.Errorf("%s: %s", code, text)
			}
		}
	}
}
