// Package mailgun is the kind mailgun: mail through Mailgun's API for one
// sending domain.
//
// A decoded config flows in and out again as the backend: the app talks to
// Mailgun itself, with the API key. The connection test asks for the domain, or
// with a key that can only send submits an incomplete message; it goes through
// the process' egress policy. It imports package providers and the helper that
// makes the test message.
package mailgun
