package obs

import (
	"io"
	"log/slog"
	"strings"
)

// Field names of log events. One spelling each, so that a query finds all.
// Packages that stand below this one spell them out; internal/arch compares.
const (
	FieldRequestID    = "request_id"
	FieldRoute        = "route" // a pattern, never a path
	FieldStatus       = "status"
	FieldCode         = "code"
	FieldDuration     = "duration_ms"
	FieldTenant       = "tenant"
	FieldOrganization = "organization"
	FieldCategory     = "category"
	FieldConnector    = "connector"
	FieldKind         = "kind"
	FieldSource       = "source"
	FieldRevision     = "revision"
	FieldDisproved    = "disproved" // the revision that the database no longer has
	FieldIssuer       = "issuer"
	FieldKeys         = "keys" // how many
	FieldDependency   = "dependency"
	FieldAction       = "action" // what was tried upstream
	FieldJob          = "job"    // which of the control plane's housekeeping
	FieldAddress      = "address"
	FieldProbes       = "probes" // the address of the probes
	FieldBudget       = "budget" // of a drain
	FieldFile         = "file"
	FieldReason       = "reason" // why egress refused a host; never told to tenants
	FieldError        = "error"
	FieldStack        = "stack" // of a panic, whose value may hold anything and is never logged
)

// NewLogger returns a logger of JSON lines. Level is debug, info, warn or
// error; anything else is info.
func NewLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if l.UnmarshalText([]byte(strings.ToUpper(level))) != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
