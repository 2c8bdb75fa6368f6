// Package postmark is the kind postmark: mail through one server of a Postmark
// account.
//
// The kind is declared: kind.yaml beside this file says what it wants to know and
// how it is tested, and package httpkind makes the provider of it. A decoded
// config flows in and out again as the backend. The traps of Postmark's API are
// in the package's test.
package postmark
