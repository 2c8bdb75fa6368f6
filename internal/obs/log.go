package obs

import (
	"io"
	"log/slog"
	"strings"
)

// Field names of log events. One spelling each, so that a query finds all.
const (
	FieldRequestID    = "request_id"
	FieldMethod       = "method"
	FieldRoute        = "route"
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
	FieldStale        = "stale"
	FieldSubject      = "subject"
	FieldIssuer       = "issuer"
	FieldDependency   = "dependency"
	FieldAddress      = "address"
	FieldPath         = "path"
	FieldCount        = "count"
	FieldError        = "error"
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
