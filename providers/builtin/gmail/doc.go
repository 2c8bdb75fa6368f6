// Package gmail is the kind gmail_oauth2: mail through the Gmail API, for a user
// who consented.
//
// A decoded config and the connector's token flow in; the config with a fresh
// access token flows out as the backend. The consent's refresh token is the
// connector's grant and never seen here. Imports take Google's credentials.json
// apart. The connection test asks Google who the token is for and, when asked,
// sends a mail; it goes through the process' egress policy. It imports package
// providers and the helpers that Google's kinds share; minting is
// providers/oauth's.
package gmail
