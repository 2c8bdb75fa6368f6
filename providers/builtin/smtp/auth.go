package smtp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	sasl "github.com/wneessen/go-mail/smtp"

	"github.com/patchbay-dev/patchbay/providers"
)

// The mechanisms, by their SASL names.
const (
	scramSHA256 = "SCRAM-SHA-256" // RFC 7677
	scramSHA1   = "SCRAM-SHA-1"   // RFC 5802
	cramMD5     = "CRAM-MD5"      // RFC 2195
	plain       = "PLAIN"         // RFC 4616
	login       = "LOGIN"         // draft-murchison-sasl-login
	xoauth2     = "XOAUTH2"       // https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
)

// strongest is the order of "auto", which is that of go-mail too. XOAUTH2 is left
// out: a password is no token. So are the PLUS forms of SCRAM, because the answer
// for apps has no name for them: what is tested must be what they can use.
var strongest = []string{scramSHA256, scramSHA1, cramMD5, plain, login}

// authenticate tries the credentials. What could not be tried is a warning and no
// failure: a relay that knows us by our address wants none.
func (s *session) authenticate(ctx context.Context) providers.Outcome {
	_, offers := s.ext["AUTH"]
	switch {
	case s.auth == "none":
		return providers.Warned(providers.CodeNotAuthenticated, "By choice nothing was authenticated, so no credential was checked.")
	case s.password == "" || s.username == "":
		return s.withoutCredentials(offers)
	case !offers:
		o := providers.Warned(providers.CodeAuthNotOffered, "")
		if _, hidden := s.ext["STARTTLS"]; hidden && s.tls == nil {
			o.Hint += " Most servers offer it only after STARTTLS."
			return o.WithFix("Use STARTTLS", map[string]any{"tls": STARTTLS})
		}
		return o
	}
	offered := strings.Fields(s.ext["AUTH"])
	mechanism := strings.ToUpper(s.auth)
	if s.auth == "auto" {
		i := slices.IndexFunc(strongest, func(m string) bool { return slices.Contains(offered, m) })
		if i < 0 {
			return providers.Failed(providers.CodeAuthMethodMissing, "The server offers none of the ways that a password can be used with, but "+listed(offered)+".")
		}
		mechanism = strongest[i]
	} else if !slices.Contains(offered, mechanism) {
		return providers.Failed(providers.CodeAuthMethodMissing,
			"The server does not offer "+mechanism+", but "+listed(offered)+".")
	}
	r, err := s.exchange(ctx, s.mechanism(mechanism), offered)
	var bad *saslError
	switch {
	case errors.As(err, &bad):
		return providers.Failed(bad.code, bad.hint)
	case err != nil:
		return s.trouble(err)
	case r.code == 235:
		s.authenticated = true
		return providers.Goodf("Authenticated by %s.", mechanism)
	}
	return s.authRefused(mechanism, r)
}

func (s *session) withoutCredentials(offers bool) providers.Outcome {
	switch {
	case s.auth != "auto":
		return providers.Failed(providers.CodeConfigIncomplete, "Authentication is chosen, but the user name or the password is missing.")
	case s.password != "":
		return providers.Warned(providers.CodeNotAuthenticated, "A password is set but no user name: nothing was authenticated.")
	case s.username != "":
		return providers.Warned(providers.CodeNotAuthenticated, "A user name is set but no password: nothing was authenticated.")
	case offers:
		return providers.Warned(providers.CodeNotAuthenticated, "Nothing was authenticated, though the server offers it. Level 2 tells whether it accepts mail like that.")
	}
	return providers.Warned(providers.CodeNotAuthenticated, "")
}

func listed(mechanisms []string) string {
	if len(mechanisms) == 0 {
		return "nothing"
	}
	return providers.Quote(strings.Join(mechanisms, ", "))
}

// mechanism returns the library's side of a mechanism. In clear it is only used
// where the admin chose the mode none: authenticate is never reached otherwise.
func (s *session) mechanism(name string) sasl.Auth {
	inClear := s.mode == None
	switch name {
	case scramSHA256:
		return &scram{Auth: sasl.ScramSHA256Auth(s.username, s.password)}
	case scramSHA1:
		return &scram{Auth: sasl.ScramSHA1Auth(s.username, s.password)}
	case cramMD5:
		return sasl.CRAMMD5Auth(s.username, s.password)
	case login:
		return sasl.LoginAuth(s.username, s.password, s.host, inClear)
	case xoauth2:
		return sasl.XOAuth2Auth(s.username, s.password)
	default:
		return sasl.PlainAuth("", s.username, s.password, s.host, inClear)
	}
}

// saslError is an exchange that the server, or the config, leads nowhere.
type saslError struct {
	code providers.TestCode
	hint string
}

func (e *saslError) Error() string { return string(e.code) }

// rounds bounds an exchange: SCRAM has the most, with four.
const rounds = 8

// exchange authenticates, RFC 4954 section 4, and returns the last reply. Errors:
// *saslError, and those of command.
func (s *session) exchange(ctx context.Context, a sasl.Auth, offered []string) (reply, error) {
	name, initial, err := a.Start(&sasl.ServerInfo{Name: s.host, TLS: s.tls != nil, Auth: offered})
	if err != nil {
		return reply{}, &saslError{providers.CodeEncryptionRequired, ""}
	}
	line := "AUTH " + name
	if len(initial) > 0 {
		line += " " + base64.StdEncoding.EncodeToString(initial)
	}
	for range rounds {
		r, err := s.command(ctx, line)
		if err != nil {
			return reply{}, err
		}
		if r.code == 235 {
			if proof, ok := a.(*scram); ok && !proof.proved {
				return reply{}, &saslError{providers.CodeProtocolError, unproved}
			}
		}
		if r.code != 334 {
			return r, nil
		}
		var answer []byte
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.lines[0]))
		if err == nil {
			answer, err = a.Next(challenge, true)
		}
		if err != nil {
			// "*" takes an exchange back; the reply to it does not matter.
			_, _ = s.command(ctx, "*")
			if bad, ok := errors.AsType[*saslError](err); ok {
				return reply{}, bad
			}
			return reply{}, &saslError{providers.CodeProtocolError, "The server's part of the authentication by " + name + " is not of the documented form."}
		}
		line = base64.StdEncoding.EncodeToString(answer)
	}
	s.broken = true
	return reply{}, &saslError{providers.CodeProtocolError, "The server asks on and on instead of ending the authentication."}
}

const unproved = "The server did not prove that it knows the password, as SCRAM demands: it may be another one."

// scramWork is the most iterations that we compute for a server. It names the
// number, and a large one would keep a processor busy for minutes. Servers use
// 4096 (RFC 7677) to a few hundred thousand.
const scramWork = 1_000_000

// scram guards the library's exchange against a hostile server, and notices one
// that skips its own proof.
type scram struct {
	sasl.Auth
	proved bool
}

func (a *scram) Next(challenge []byte, more bool) ([]byte, error) {
	if bytes.HasPrefix(challenge, []byte("e=")) { // RFC 5802 section 7, server-error
		return nil, &saslError{providers.CodeAuthFailed, ""}
	}
	for part := range bytes.SplitSeq(challenge, []byte(",")) {
		if count, ok := bytes.CutPrefix(part, []byte("i=")); ok {
			if n, err := strconv.Atoi(string(count)); err != nil || n < 1 || n > scramWork {
				return nil, &saslError{providers.CodeProtocolError, "The server asks for an unreasonable amount of work for SCRAM."}
			}
		}
	}
	answer, err := a.Auth.Next(challenge, more)
	if bytes.HasPrefix(challenge, []byte("v=")) {
		if err != nil {
			return nil, &saslError{providers.CodeProtocolError, unproved}
		}
		a.proved = true
	}
	return answer, err
}
