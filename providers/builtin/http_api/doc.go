// Package httpapi is the kind http_api: any HTTP API with one of the usual ways
// to authenticate.
//
// The kind is declared: kind.yaml beside this file says what it wants to know and
// how it is tested, and package httpkind makes the provider of it. What a success
// looks like is not known of an unknown API; the test compares the answer with the
// one that a caller without credentials gets.
package httpapi
