// Package smtp is the kind smtp: an SMTP submission server or relay.
//
// A decoded config flows in; the backend is the same config with the TLS mode
// spelled out. The connection test is not part of the package yet:
// providers.Base reports it as skipped.
package smtp
