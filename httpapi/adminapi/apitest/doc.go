// Package apitest holds what answers of the admin API are judged by: the OpenAPI
// document that the API itself serves.
//
// Requests and responses flow through its transport, and every response that the
// document doesn't describe fails the test. It knows the document alone and nothing
// of the project, and is imported by tests only.
package apitest
