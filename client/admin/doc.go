// Package admin is a Go client of Patchbay's admin API: what a tenant's admin and
// their automation do to connectors, and the platform's operator to tenants.
//
// It follows the OpenAPI document that a control plane serves at /api/openapi.json,
// and imports nothing of the server: it can be vendored alone. Every method does one
// request and returns *[Problem] for an answer that is none.
package admin
