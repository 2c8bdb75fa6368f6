// Package rediscache is Redis as resolver sees it: the shared cache of records,
// the feed of changes and the relay's publisher. It is the sole home of
// go-redis.
//
// Records and revisions flow through it, secrets never: a record holds the pin
// of its secrets at most. Every key of a tenant carries the hash tag {tenant},
// so that scripts over a tenant's keys work on a cluster. It imports resolver,
// connector, tenant and internal packages. Losing Redis costs latency only:
// errors are fault.Unavailable and the caller goes on to the database.
//
// Not guaranteed: that a revision key which vanishes alone, without a restart, is
// missed. A reader that began before can bring it back as it read it, and then a
// sidecar that did not hear of the change is bound by its ttl only. Revision keys
// have no expiry and entries do: with the eviction policies noeviction and
// volatile-* none vanishes.
package rediscache
