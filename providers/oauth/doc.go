// Package oauth is the life of access tokens: how a connector gets one, when it
// is renewed, and by whom of a fleet. [Manager] implements connector.Tokens; the
// consent's two library-like steps are [AuthCodeURL] and [Manager.Exchange].
//
// It is the sole home of golang.org/x/oauth2. Unlike the kinds beside it, it knows
// tenants and connectors: a token belongs to one of each, and the lease of its
// refresh is a row of the store. It imports providers, connector, tenant and vault
// (contracts only) and internal packages; the database, Vault, Redis and the way to
// the network are handed in.
//
// # One refresh
//
// A grant is what a user consented to: a refresh token in Vault, at one path, whose
// version orders everything. Beside the refresh token the grant holds the access
// token that came with it, so that a process which finds Redis gone reads a fresh
// token from Vault instead of refreshing again. Once 70 to 85 % of a token's life
// are over (each process and token has its own moment in between) the first to
// notice does this, while the old token is served:
//
//  1. It looks for a newer token in the shared cache, then, where the grant's row
//     says that there is one, in Vault.
//  2. It takes the lease of the grant's row, or waits for who has it. The lease
//     lasts more than twice the HTTP timeout and is kept alive until the end.
//  3. It reads the grant again; whoever had the lease before may have left a fresh
//     token there.
//  4. It asks the issuer.
//  5. It writes the answer to Vault, with check-and-set on the version it read.
//     Nothing of the answer is used or published before that.
//  6. It records the version in the row, publishes the token, gives the lease back.
//
// Nothing depends on the lease alone: two holders (one was suspended) meet at the
// check-and-set, and the row's version is the fence for what they conclude. The
// one that lost reads the winner's grant.
//
// # Which token may be served
//
// One that is not past its end, and not of a lower grant version than the database
// said when the config was read. The end is counted from before the request was
// sent, less an allowance for the clocks of a fleet. In the shared cache a token is
// found under its version only, and encrypted with a key derived from tenant,
// connector, client and version, which are its additional data too. So a process
// looks for the version after the one it holds, or for the database's, and what
// lies under another version's name does not decrypt.
//
// # When things are down
//
//   - The issuer (5xx, 429, timeouts, what is no token): the grant is kept, tries
//     back off, the old token is served until its end, then 503.
//   - Redis: each process reads Vault once per token; nothing else changes.
//   - The database: grants of issuers that replace refresh tokens are not refreshed,
//     the others are.
//   - Vault before the issuer was asked: as the issuer. A process that has not lately
//     written a grant first proves that it may, by a write that must lose its
//     check-and-set: a refresh token that can't be stored must not be taken.
//   - Vault after the issuer has replaced the refresh token: the answer is held, the
//     write is tried again for [Options.WriteBudget], or until Close, and nothing
//     of it is served.
//
// invalid_grant is believed only when the grant, read again, is still the version
// that was refused.
//
// # What a test proves
//
// A token at hand says nothing about a client secret that was changed since, so the
// grant holds a slow digest of the one that it was last used with, and
// [Manager.Prove] refreshes it, by the rules above, where the present one is another.
// What is not stored ([Manager.Draft]) mints for itself and leaves nothing.
//
// # Not promised
//
//   - An issuer that replaces refresh tokens at once and takes none twice loses the
//     grant if the process dies between the issuer's commit and Vault's. A grace
//     of some issuers closes that: a dropped connection is tried again at once, a
//     dead process's successor after its lease, 2.5 HTTP timeouts.
//   - Minted tokens (client credentials, service accounts) are made once per fleet
//     with Redis, once per process without.
//   - Versions must not restart while a connector lives. [Manager.Forget] leaves a
//     version without tokens, and destroys those before it; whoever does that by hand
//     must not destroy the path's metadata.
//   - An issuer that states no expires_in: where a token can be had without a person
//     an hour is assumed (RFC 6749 section 5.1 leaves it to documentation, and the
//     usual case is a session of some hours); where there is no refresh token the
//     access token is taken to last.
package oauth
