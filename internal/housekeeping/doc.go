// Package housekeeping is what the control plane does by itself. A [Sweeper]
// removes what nothing refers to any more: secret bundles that no connector and no
// revision of one pins (DESIGN 7). A [Retester] tests active connectors now and
// then and tells a vendor's outage from a tenant's fault. A [Drift] brings the
// states of connectors in line with their OAuth2 grants. An [Expiry] deletes what
// has come to its end: idempotency keys, consents, old audit entries. A [Purger]
// deletes tenants for good, whose date has come.
//
// What flows through it: the paths that a vault.Store lists, judged by what a
// connector.Store says under the connector's lock; and connectors and grants, which
// connector.Service tests and changes by its own rules. It works on the contracts
// alone, so it may import connector, providers, tenant, vault and fault, and only
// commands import it. The outbox is swept by the relay, which writes it.
package housekeeping
