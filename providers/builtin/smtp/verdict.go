package smtp

import (
	"github.com/patchbay-dev/patchbay/providers"
)

// quote is a reply as a hint may repeat it. The secrets go first: cut off in the
// middle or with its spaces joined, one would not be recognised any more.
func (s *session) quote(r reply) string {
	return `"` + providers.Quote(s.redact.Replace(r.text())) + `"`
}

// failed is a finding with the server's own words.
func (s *session) failed(code providers.TestCode, hint string, r reply) providers.Outcome {
	if hint == "" {
		hint = code.Info().Hint
	}
	return providers.Failed(code, hint+" The server says: "+s.quote(r))
}

// refused judges a reply that is not the wanted one. Codes that mean the same
// after every command come first; otherwise is what a permanent refusal of this
// command means.
func (s *session) refused(r reply, otherwise providers.TestCode) providers.Outcome {
	switch {
	case r.code == 530: // RFC 4954 section 6, RFC 3207 section 4
		if s.tls == nil && r.says("starttls", "tls", "encrypt", "ssl") {
			return s.failed(providers.CodeEncryptionRequired, "", r)
		}
		return s.failed(providers.CodeAuthRequired, "", r)
	case r.code == 538: // RFC 4954 section 6 knows it from RFC 2554
		return s.failed(providers.CodeEncryptionRequired, "", r)
	case r.class() == 4: // 421 closes, 450 to 454 are for another time
		return s.failed(providers.CodeVendorError, "", r)
	case r.class() == 5:
		return s.failed(otherwise, "", r)
	}
	s.broken = true
	return s.failed(providers.CodeProtocolError, "The server's answer does not fit what it was asked.", r)
}

// authRefused judges the end of an authentication, RFC 4954 section 6.
func (s *session) authRefused(mechanism string, r reply) providers.Outcome {
	switch r.code {
	case 530:
		if s.tls == nil {
			return s.failed(providers.CodeEncryptionRequired, "", r)
		}
	case 432: // a password transition is needed
		return s.failed(providers.CodeAuthFailed, "The server asks to log in once by PLAIN, so that it can convert its password.", r)
	case 534:
		// The RFC's meaning is a mechanism that is too weak for this account; the
		// large providers use it for accounts with a second factor.
		if r.says("mechanism", "too weak") {
			return s.failed(providers.CodeAuthMethodMissing, "The server refuses "+mechanism+" as too weak for this account.", r)
		}
		return s.failed(providers.CodeAppPasswordRequired, "", r)
	case 502, 504: // not implemented; unrecognised mechanism
		return s.failed(providers.CodeAuthMethodMissing, "", r)
	case 500, 501, 503:
		return s.failed(providers.CodeProtocolError, "The server did not understand the authentication by "+mechanism+".", r)
	}
	hint := ""
	switch {
	case mechanism == xoauth2:
		hint = "The access token is refused. It may have ended, be another account's, or lack the scope for SMTP."
	case mechanism == cramMD5 && s.auth == "auto":
		// Servers that store hashes offer it and then can't do it.
		hint = "The credentials are refused by CRAM-MD5. If they are right, choose PLAIN."
	}
	if r.class() == 5 && r.code != 538 && hint != "" {
		return s.failed(providers.CodeAuthFailed, hint, r)
	}
	return s.refused(r, providers.CodeAuthFailed)
}
