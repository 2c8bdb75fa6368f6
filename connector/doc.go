// Package connector holds the records that Patchbay is about: connectors with
// their params, organizations, tenants, and the [Store] contract that keeps
// them.
//
// Records flow from the importer and the admin API through [Store.Change] into
// a store; [Snapshot]s flow from [TenantReader] to the resolver. Two stores
// implement the contract: postgres (the real one) and sqlite (the embedded
// default); both pass storetest. The package imports tenant, providers and
// internal packages. It knows neither Vault (secrets are a [Pin]) nor HTTP.
package connector
