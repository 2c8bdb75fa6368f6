// Package tenant answers "who asks": ids, [Env] and the Verifier that makes an
// Env from a JWT and from nothing else.
//
// Tokens flow in, Envs flow out. The package is the sole home of golang-jwt and
// of the key sources (JWKS URL, OIDC discovery, JWKS file, PEM, HMAC file). It
// imports internal packages only; everything else imports it. What an Env may
// reach is decided by its users (resolver, httpapi) from the facts it states.
package tenant
