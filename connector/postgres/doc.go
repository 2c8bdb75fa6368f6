// Package postgres keeps connectors in PostgreSQL 15 and newer. It is the sole
// home of pgx.
//
// Records flow in through [Store.Change], one transaction that first moves the
// revisions of its tenants; snapshots flow out through one pipelined batch per
// resolve. [Migrate] owns the schema, which lies in migrations/. Two walls stand
// between tenants: every statement names its tenant, and row-level security,
// forced on the owner too, holds where a statement would forget.
//
// The package passes connector/storetest. It may import connector, tenant,
// providers and internal packages. What an answer means is the resolver's to
// say; secrets are pins here, never values.
package postgres
