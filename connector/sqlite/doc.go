// Package sqlite is the embedded [connector.Store]: one file, no server. It is
// the default of the command dev, and the fake that other packages' tests use.
//
// Records flow as in every store; see package connector. One connection writes,
// in WAL mode with synchronous=FULL, so that an acknowledged write survives a
// kill -9; a small pool reads beside it. Rules that must hold under any
// concurrency (one default per slot, a value or a secret) are constraints of
// the schema, not checks in Go.
//
// The store belongs to one process at a time: a relay's claims on outbox rows
// are kept in memory, and a second process could send a row again. The data
// dir's lock is the caller's.
//
// The package imports the contracts, fault, database/sql, modernc.org/sqlite
// and goose. It is the sole home of modernc.org/sqlite.
package sqlite
