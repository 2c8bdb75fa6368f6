// Package oidc is the OpenID provider that the tests of OAuth2 run against: a real
// one (zitadel's, over its example's storage) in the test's own process, whose
// tokens live as long as a test says and whose refresh tokens are replaced or not.
// Options flow in, a URL comes out; what a test counts or breaks it puts in between
// with Options.Between. It imports nothing of the project.
package oidc
