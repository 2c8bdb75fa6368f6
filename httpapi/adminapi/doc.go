// Package adminapi is the control plane's API, /api/*: what a tenant's admin, their
// automation and the Settings UI do to connectors, and what the platform's operator
// does to tenants.
//
// Requests flow in as JSON, a scope is made from a verified JWT, and connector.Service
// decides; answers flow out with versions and revisions. Permissions are checked
// here, before anything is looked up; every other rule is the Service's. Operations
// are declared with huma, which parses parameters, routes, and writes the OpenAPI
// document. It judges no body: bodies arrive raw and pass strictjson, because huma's
// errors repeat what was submitted, and a body may hold a secret.
//
// The package may import connector, datafile, providers, tenant and the internal
// leaves; package httpapi mounts it beside the other surfaces.
package adminapi
