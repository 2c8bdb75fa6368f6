// Package syslog is the kind syslog: log messages to a tenant's own collector,
// over TCP with or without TLS (RFC 5424, 5425, 6587).
//
// It shows what a kind in a module of its own looks like. A decoded config flows
// in; a backend, or the report of a connection test, flows out. It imports package
// providers and nothing else of Patchbay, and reaches the network through
// providers.Runtime alone.
package syslog
