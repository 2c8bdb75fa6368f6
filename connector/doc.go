// Package connector holds the records that Patchbay is about: connectors with
// their params, organizations, tenants, the [Store] contract that keeps them, and
// the [Service] with the verbs of their lifecycle.
//
// Records flow from the importer through [Store.Change] into a store, and from
// the admin API and the control plane's housekeeping through [Service], which
// holds every rule about who may see, edit, test, activate and default what;
// [Snapshot]s flow from [TenantReader] to the resolver. Two stores implement the
// contract: postgres (the real one) and sqlite (the embedded default); both pass
// storetest. The package imports tenant, providers and internal packages. It
// knows neither Vault (secrets are a [Pin], and [Secrets] where a verb needs them)
// nor HTTP.
package connector
