// Package housekeeping removes what nothing refers to any more: secret bundles
// that no connector and no revision of one pins (DESIGN 7).
//
// What flows through it: the paths that a vault.Store lists, judged by what a
// connector.Store says under the connector's lock. It works on the contracts
// alone, so it may import connector, tenant, vault and fault, and only commands
// import it. The outbox is swept by the relay, which writes it.
package housekeeping
