// Package devissuer is the token issuer of the dev command: a key file in the
// data directory, and tokens signed with it.
//
// Claims flow in, JWTs flow out. It imports package tenant (whose Verifier
// checks what it mints) and internal packages. It is no identity provider:
// whoever can read the data directory can be anybody, on that directory's dev
// process only.
package devissuer
