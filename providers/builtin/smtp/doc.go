// Package smtp is the kind smtp: an SMTP submission server or relay.
//
// A decoded config flows in; the backend is the same config with the TLS mode
// spelled out. The connection test holds the conversation of RFC 5321 step by
// step: connect, encrypt (RFC 8314, RFC 3207), authenticate (RFC 4954), and, when
// asked, sender, recipient and a real mail. It keeps the conversation in its own
// hands, because a report needs the reply to each command, and bounds for a
// server that sends without end; the mechanisms of authentication and the test
// mail come from go-mail, whose home this package is.
//
// What it dials goes through providers.Runtime, so through the operator's egress
// policy. There is no param for an authority of a tenant's own: the roots are the
// operator's. Nothing happens at activation and deactivation: a mail server keeps
// no state about its clients.
package smtp
