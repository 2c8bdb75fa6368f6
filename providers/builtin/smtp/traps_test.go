package smtp_test

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const (
	rfc3207    = "RFC 3207 section 4"
	rfc3463    = "RFC 3463 section 3.8"
	rfc4954    = "RFC 4954 section 4"
	rfc4954s6  = "RFC 4954 section 6"
	rfc5321s31 = "RFC 5321 section 3.1"
	rfc5321s38 = "RFC 5321 section 3.8"
	rfc5321s42 = "RFC 5321 section 4.2"
	rfc5802    = "RFC 5802 section 7"
	rfc6409    = "RFC 6409 section 3.1"
	rfc8314    = "RFC 8314 section 3.3"
	xoauth2Doc = "https://developers.google.com/workspace/gmail/imap/xoauth2-protocol"
	secondDoc  = "https://support.google.com/mail/?p=InvalidSecondFactor"
)

// against is a trap's Make over a fake with STARTTLS.
func against(f func() *fake, params map[string]any) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		return bound(runtime(t, nil)), input(f().start(t), params)
	}
}

// saying is a fake with one other reply.
func saying(verb, text string) func() *fake {
	return func() *fake { return &fake{replies: map[string]string{verb: text}} }
}

func greeting(text string) func() *fake { return func() *fake { return &fake{greeting: text} } }

func offering(mechanisms string, auth func(*peer, string)) func() *fake {
	return func() *fake { return &fake{ehlo: "STARTTLS,AUTH " + mechanisms, auth: auth} }
}

// onPort is a fake on a well-known port, which the runtime's dialler maps to the fake's.
func onPort(port int, f func() *fake, params map[string]any) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		return bound(runtime(t, moved(port, f().start(t)))), input(port, params)
	}
}

func mailpit(params map[string]any) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		server := testenv.SMTP(t)
		all := map[string]any{"host": server.Host, "password": server.Password}
		maps.Copy(all, params)
		rt := runtime(t, nil)
		rt.Roots = server.Roots
		return bound(rt), input(server.Port, all)
	}
}

func certified(c func(t *testing.T) tls.Certificate, implicit bool) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		cert := c(t)
		f := &fake{cert: &cert, implicit: implicit}
		mode := "starttls"
		if implicit {
			mode = "implicit"
		}
		return bound(runtime(t, nil)), input(f.start(t), map[string]any{"tls": mode})
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	const (
		fail = providers.StepFail
		warn = providers.StepWarn
	)
	ok := func(name, doc string, level int, make func(*testing.T) (providers.Provider, providers.Input)) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Level: level, Make: make}
	}
	traps := []providertest.Trap{
		// A real server.
		ok("a server that takes mail", rfc6409, 3, mailpit(nil)),
		ok("a server whose name is an address", rfc8314, 1, mailpit(map[string]any{"host": "127.0.0.1"})),
		{Name: "a wrong password", Doc: rfc4954s6, Make: mailpit(map[string]any{"password": "canary-wrong"}),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "no password where one is needed", Doc: rfc4954, Level: 2, Make: mailpit(map[string]any{"username": nil, "password": ""}),
			Step: "sender", Status: fail, Code: providers.CodeAuthRequired},
		{Name: "no password, and nobody asked yet", Doc: rfc4954, Make: mailpit(map[string]any{"username": nil, "password": ""}),
			Step: "auth", Status: warn, Code: providers.CodeNotAuthenticated},
		{Name: "no encryption where it is demanded", Doc: rfc3207, Make: mailpit(map[string]any{"tls": "none"}),
			Step: "auth", Status: fail, Code: providers.CodeEncryptionRequired},
		{Name: "TLS from the start where STARTTLS is spoken", Doc: rfc8314, Make: func(t *testing.T) (providers.Provider, providers.Input) {
			server := testenv.SMTP(t)
			rt := runtime(t, moved(587, server.Port))
			rt.Roots = server.Roots
			return bound(rt), input(587, map[string]any{"host": server.Host, "password": server.Password, "tls": "implicit"})
		}, Step: "tls", Status: fail, Code: providers.CodeTLSWrongMode, Fix: map[string]any{"tls": "starttls", "port": int64(587)}},

		// Reaching the host.
		{Name: "a host that doesn't resolve", Make: against(greeting(""), map[string]any{"host": "nowhere.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeHostNotFound},
		{Name: "a host inside the operator's network", Make: against(greeting(""), map[string]any{"host": "inside.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeEgressDenied},
		{Name: "a host that is a metadata service", Make: against(greeting(""), map[string]any{"host": "metadata.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeEgressDenied},
		ok("a host name that leads inside from the second look-up on", "", 1, func(t *testing.T) (providers.Provider, providers.Input) {
			const rebinds = "rebinds.acme.example"
			c := authority(t).Issue(t, rebinds)
			return bound(runtime(t, nil)), input((&fake{cert: &c}).start(t), map[string]any{"host": rebinds})
		}),
		{Name: "a wrong port", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			return bound(runtime(t, nil)), input(testenv.FreePort(t), nil)
		}, Step: "connect", Status: fail, Code: providers.CodeConnectionRefused},
		{Name: "a connection that nobody accepts", Make: func(*testing.T) (providers.Provider, providers.Input) {
			return bound(providers.Runtime{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}), input(25, nil)
		}, Step: "connect", Status: fail, Code: providers.CodeTimeout},
		{Name: "a process without a way out", Make: func(*testing.T) (providers.Provider, providers.Input) {
			return bound(providers.Runtime{}), input(587, nil)
		}, Step: "connect", Status: fail, Code: providers.CodeNoNetwork},

		// TLS.
		{Name: "STARTTLS on port 465, which works", Doc: rfc8314, Make: onPort(465, greeting(""), map[string]any{"tls": "starttls"}),
			Step: "starttls", Status: warn, Code: providers.CodeTLSWrongMode},
		{Name: "TLS from the start on port 587, which works", Doc: rfc8314,
			Make: onPort(587, func() *fake { return &fake{implicit: true} }, map[string]any{"tls": "implicit"}),
			Step: "tls", Status: warn, Code: providers.CodeTLSWrongMode},
		{Name: "STARTTLS on port 465, where TLS is expected", Doc: rfc8314,
			Make: onPort(465, func() *fake { return &fake{implicit: true} }, map[string]any{"tls": "starttls"}),
			Step: "greeting", Status: fail, Code: providers.CodeTLSWrongMode, Fix: map[string]any{"tls": "implicit", "port": int64(465)}},
		{Name: "TLS from the start on port 587, where STARTTLS is expected", Doc: rfc8314,
			Make: onPort(587, greeting(""), map[string]any{"tls": "implicit"}),
			Step: "tls", Status: fail, Code: providers.CodeTLSWrongMode, Fix: map[string]any{"tls": "starttls", "port": int64(587)}},
		{Name: "TLS from the start where there is no encryption", Doc: rfc8314,
			Make: onPort(587, func() *fake { return &fake{ehlo: "AUTH PLAIN"} }, map[string]any{"tls": "implicit"}),
			Step: "tls", Status: fail, Code: providers.CodeTLSWrongMode},
		{Name: "STARTTLS where the server has none", Doc: rfc3207,
			Make: onPort(587, func() *fake { return &fake{ehlo: "AUTH PLAIN"} }, nil),
			Step: "starttls", Status: fail, Code: providers.CodeStartTLSMissing},
		{Name: "STARTTLS where the server has TLS on port 465", Doc: rfc8314, Make: func(t *testing.T) (providers.Provider, providers.Input) {
			plain, secure := &fake{ehlo: "AUTH PLAIN"}, &fake{implicit: true}
			return bound(runtime(t, moved(465, secure.start(t)))), input(plain.start(t), nil)
		}, Step: "starttls", Status: fail, Code: providers.CodeStartTLSMissing, Fix: map[string]any{"tls": "implicit", "port": int64(465)}},
		{Name: "STARTTLS that is announced and refused", Doc: rfc3207, Make: against(saying("STARTTLS", "502 5.5.1 no"), nil),
			Step: "starttls", Status: fail, Code: providers.CodeStartTLSMissing},
		{Name: "STARTTLS that is not available just now", Doc: rfc3207, Make: against(saying("STARTTLS", "454 4.7.0 TLS not available"), nil),
			Step: "starttls", Status: fail, Code: providers.CodeVendorError},
		{Name: "STARTTLS that is agreed to and not done", Doc: rfc3207, Make: against(saying("STARTTLS", "220 go ahead\r\n250 or not"), nil),
			Step: "starttls", Status: fail, Code: providers.CodeProtocolError},
		{Name: "STARTTLS and then a hang", Doc: rfc3207, Make: against(saying("STARTTLS", "220 go ahead\r\n"+hang), nil),
			Step: "starttls", Status: fail, Code: providers.CodeTimeout},
		{Name: "STARTTLS and then plain text", Doc: rfc3207, Make: against(saying("STARTTLS", "220 go ahead"), nil),
			Step: "starttls", Status: fail, Code: providers.CodeTLSFailed},
		{Name: "a server that knows no TLS that is still safe", Doc: "RFC 8996",
			Make: against(func() *fake { return &fake{maxTLS: tls.VersionTLS11} }, nil),
			Step: "starttls", Status: fail, Code: providers.CodeTLSFailed},
		{Name: "an expired certificate", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).IssueUntil(t, time.Now().Add(-time.Hour), host)
		}, true), Step: "certificate", Status: fail, Code: providers.CodeCertificateExpired},
		{Name: "an expired certificate behind STARTTLS", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).IssueUntil(t, time.Now().Add(-time.Hour), host)
		}, false), Step: "certificate", Status: fail, Code: providers.CodeCertificateExpired},
		{Name: "a certificate for another name", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).Issue(t, "other.acme.example", "third.acme.example")
		}, true), Step: "certificate", Status: fail, Code: providers.CodeCertificateName},
		{Name: "a certificate for another name behind STARTTLS", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).Issue(t, "other.acme.example")
		}, false), Step: "certificate", Status: fail, Code: providers.CodeCertificateName},
		{Name: "a certificate of an authority that the operator does not know", Make: certified(func(t *testing.T) tls.Certificate {
			return testenv.NewAuthority(t).Issue(t, host)
		}, true), Step: "certificate", Status: fail, Code: providers.CodeCertificateUnknown},
		{Name: "a self-signed certificate", Make: certified(func(t *testing.T) tls.Certificate {
			c, _ := testenv.SelfSigned(t, host)
			return c
		}, false), Step: "certificate", Status: fail, Code: providers.CodeCertificateUnknown},
		ok("a self-signed certificate that the operator trusts", "", 1, func(t *testing.T) (providers.Provider, providers.Input) {
			c, pool := testenv.SelfSigned(t, host)
			rt := runtime(t, nil)
			rt.Roots = pool
			return bound(rt), input((&fake{cert: &c}).start(t), nil)
		}),
		{Name: "TLS from the start with a server that says nothing", Make: against(greeting(hang), map[string]any{"tls": "implicit"}),
			Step: "tls", Status: fail, Code: providers.CodeTimeout},
		{Name: "TLS from the start with a server that hangs up", Make: against(greeting(vanish), map[string]any{"tls": "implicit"}),
			Step: "tls", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "binary noise where TLS is expected", Make: against(greeting(binary), map[string]any{"tls": "implicit"}),
			Step: "tls", Status: fail, Code: providers.CodeTLSWrongMode},
		{Name: "STARTTLS that nobody answers", Make: against(saying("STARTTLS", hang), nil),
			Step: "starttls", Status: fail, Code: providers.CodeTimeout},
		{Name: "STARTTLS and a closed connection", Make: against(saying("STARTTLS", vanish), nil),
			Step: "starttls", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "no encryption, by choice", Doc: rfc8314, Make: against(func() *fake { return &fake{ehlo: "AUTH PLAIN"} }, map[string]any{"tls": "none"}),
			Step: "tls", Status: warn, Code: providers.CodeUnencrypted},
		{Name: "no encryption, by choice, though it is offered", Doc: rfc3207, Make: against(greeting(""), map[string]any{"tls": "none"}),
			Step: "tls", Status: warn, Code: providers.CodeUnencrypted, Fix: map[string]any{"tls": "starttls"}},

		// Greeting and EHLO.
		{Name: "a server that is busy", Doc: rfc5321s38, Make: against(greeting("421 4.3.2 too many connections"), nil),
			Step: "greeting", Status: fail, Code: providers.CodeVendorError},
		{Name: "a server that does not want our address", Doc: rfc5321s31, Make: against(greeting("554 5.7.1 listed"), nil),
			Step: "greeting", Status: fail, Code: providers.CodeAddressNotAllowed},
		{Name: "a server that says nothing", Doc: rfc5321s31, Make: against(greeting(hang), nil),
			Step: "greeting", Status: fail, Code: providers.CodeTimeout},
		{Name: "a server that hangs up", Make: against(greeting(vanish), nil),
			Step: "greeting", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a greeting of 1 GB in lines", Doc: rfc5321s42, Make: against(greeting(flood), nil),
			Step: "greeting", Status: fail, Code: providers.CodeTooLarge},
		{Name: "a greeting of 1 GB in one line", Doc: rfc5321s42, Make: against(greeting(endless), nil),
			Step: "greeting", Status: fail, Code: providers.CodeTooLarge},
		{Name: "a web server", Doc: rfc5321s42, Make: against(greeting("HTTP/1.1 400 Bad Request"), nil),
			Step: "greeting", Status: fail, Code: providers.CodeProtocolError},
		{Name: "an SSH server", Doc: rfc5321s42, Make: against(greeting("SSH-2.0-OpenSSH_9.2"), nil),
			Step: "greeting", Status: fail, Code: providers.CodeProtocolError},
		{Name: "binary noise", Doc: rfc5321s42, Make: against(greeting(binary), nil),
			Step: "greeting", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a web server with TLS on the mail port", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			f := &fake{implicit: true, greeting: "HTTP/1.1 400 Bad Request"}
			return bound(runtime(t, nil)), input(f.start(t), nil)
		}, Step: "greeting", Status: fail, Code: providers.CodeProtocolError},
		{Name: "an EHLO name that is refused", Doc: "RFC 5321 section 4.1.4", Make: against(saying("EHLO", "550 5.7.1 who are you"), nil),
			Step: "ehlo", Status: fail, Code: providers.CodeHELORefused},
		{Name: "an EHLO answer of 1 GB", Doc: rfc5321s42, Make: against(saying("EHLO", flood), nil),
			Step: "ehlo", Status: fail, Code: providers.CodeTooLarge},
		{Name: "an EHLO that hangs", Make: against(saying("EHLO", hang), nil),
			Step: "ehlo", Status: fail, Code: providers.CodeTimeout},
		{Name: "an EHLO after which the server hangs up", Make: against(saying("EHLO", vanish), nil),
			Step: "ehlo", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "an EHLO that is not finished inside TLS", Make: against(saying("EHLO TLS", hang), nil),
			Step: "ehlo_tls", Status: fail, Code: providers.CodeTimeout},
		{Name: "an EHLO answered by noise", Doc: rfc5321s42, Make: against(saying("EHLO", binary), nil),
			Step: "ehlo", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a server from before EHLO", Doc: "RFC 5321 section 3.2", Make: against(saying("EHLO", "500 what"), nil),
			Step: "starttls", Status: fail, Code: providers.CodeStartTLSMissing},

		// A test's steps have 13 s: the fourth reply is past them, the third with 3 s to
		// spare for a machine that stalls.
		{Name: "a server that takes seconds for each reply", Make: against(func() *fake { return &fake{delay: 3300 * time.Millisecond} }, nil),
			Step: "auth", Status: fail, Code: providers.CodeTimeout},

		{Name: "a server from before EHLO, and a password", Doc: "RFC 5321 section 3.2",
			Make: against(saying("EHLO", "502 5.5.1 what"), map[string]any{"tls": "none"}),
			Step: "auth", Status: warn, Code: providers.CodeAuthNotOffered},

		// Authentication.
		ok("SCRAM-SHA-256, the strongest of all", rfc5802, 1, against(offering("LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256", scram256(nil)), nil)),
		ok("SCRAM-SHA-1, the strongest on offer", rfc5802, 1, against(offering("LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1", scram1(nil)), nil)),
		ok("CRAM-MD5, the strongest on offer", "RFC 2195", 1, against(offering("PLAIN CRAM-MD5", authCRAM), nil)),
		ok("PLAIN, the strongest on offer", "RFC 4616", 1, against(offering("LOGIN PLAIN", authPlain), nil)),
		ok("LOGIN, the only one on offer", "draft-murchison-sasl-login-00", 1, against(offering("LOGIN", authLogin), nil)),
		ok("PLAIN in the form of an old draft", "RFC 4954 section 3", 1, against(func() *fake { return &fake{ehlo: "STARTTLS,AUTH=PLAIN", auth: authPlain} }, nil)),
		ok("PLAIN by choice", "RFC 4616", 1, against(offering("PLAIN SCRAM-SHA-256", authPlain), map[string]any{"auth": "plain"})),
		{Name: "SCRAM with a wrong password", Doc: rfc5802, Make: against(offering("SCRAM-SHA-256", scram256(nil)), map[string]any{"password": "canary-wrong"}),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "a SCRAM error of the server", Doc: rfc5802, Make: against(offering("SCRAM-SHA-256", scram256(map[string]string{"first": "e=unknown-user"})), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "a server that does not prove itself in SCRAM", Doc: rfc5802, Make: against(offering("SCRAM-SHA-256", scram256(map[string]string{"final": "skip"})), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a server that proves itself wrongly in SCRAM", Doc: rfc5802, Make: against(offering("SCRAM-SHA-1", scram1(map[string]string{"final": "v=AAAA"})), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "SCRAM that would cost minutes of work", Doc: "RFC 7677 section 4",
			Make: against(offering("SCRAM-SHA-256", scram256(map[string]string{"first": "r=NONCEx,s=AAAA,i=2000000000"})), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "XOAUTH2 with a token that has ended", Doc: xoauth2Doc,
			Make: against(offering("PLAIN XOAUTH2", authXOAUTH2), map[string]any{"auth": "xoauth2"}),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "only XOAUTH2, with a password", Doc: xoauth2Doc, Make: against(offering("XOAUTH2 OAUTHBEARER", nil), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthMethodMissing},
		{Name: "a mechanism that is not offered", Doc: rfc4954, Make: against(offering("PLAIN LOGIN", nil), map[string]any{"auth": "scram-sha-256"}),
			Step: "auth", Status: fail, Code: providers.CodeAuthMethodMissing},
		{Name: "a mechanism that is offered and not implemented", Doc: rfc4954, Make: against(saying("AUTH", "504 5.5.4 unrecognized"), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthMethodMissing},
		{Name: "bad credentials", Doc: rfc4954s6, Make: against(saying("AUTH", "535 5.7.8 Authentication credentials invalid"), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "bad credentials that the server repeats", Doc: rfc4954s6, Make: against(saying("AUTH", "535 5.7.8 not "+password), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "CRAM-MD5 that refuses a good password", Doc: "RFC 2195",
			Make: against(func() *fake {
				return &fake{ehlo: "STARTTLS,AUTH CRAM-MD5 PLAIN", replies: map[string]string{"AUTH": "535 5.7.8 no"}}
			}, nil), Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "an account with a second factor", Doc: secondDoc, Make: against(saying("AUTH", "534-5.7.9 Application-specific password required. For more information, go to\r\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor"), nil),
			Step: "auth", Status: fail, Code: providers.CodeAppPasswordRequired},
		{Name: "a mechanism that is too weak for the account", Doc: rfc4954s6, Make: against(saying("AUTH", "534 5.7.9 Authentication mechanism is too weak"), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthMethodMissing},
		{Name: "a password that has to be converted first", Doc: rfc4954s6, Make: against(saying("AUTH", "432 4.7.12 A password transition is needed"), nil),
			Step: "auth", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "an authentication that wants encryption, by 538", Doc: rfc4954s6, Make: against(saying("AUTH", "538 5.7.11 Encryption required"), map[string]any{"tls": "none"}),
			Step: "auth", Status: fail, Code: providers.CodeEncryptionRequired},
		{Name: "an authentication that wants encryption, by 530", Doc: rfc3207, Make: against(saying("AUTH", "530 5.7.0 Must issue a STARTTLS command first"), map[string]any{"tls": "none"}),
			Step: "auth", Status: fail, Code: providers.CodeEncryptionRequired},
		{Name: "a temporary fault while authenticating", Doc: rfc4954s6, Make: against(saying("AUTH", "454 4.7.0 Temporary authentication failure"), nil),
			Step: "auth", Status: fail, Code: providers.CodeVendorError},
		{Name: "a server that closes while authenticating", Doc: rfc5321s38, Make: against(saying("AUTH", "421 4.7.0 closing"), nil),
			Step: "auth", Status: fail, Code: providers.CodeVendorError},
		{Name: "an authentication that hangs", Make: against(saying("AUTH", hang), nil),
			Step: "auth", Status: fail, Code: providers.CodeTimeout},
		{Name: "an authentication that ends in a closed connection", Make: against(saying("AUTH", vanish), nil),
			Step: "auth", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "an authentication that never ends", Doc: rfc4954, Make: against(offering("CRAM-MD5", func(p *peer, _ string) {
			for err := error(nil); err == nil; {
				_, err = p.ask("more")
			}
		}), nil), Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a challenge that is not base64", Doc: rfc4954, Make: against(saying("AUTH", "334 !!!"), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "an authentication answered by noise", Doc: rfc5321s42, Make: against(saying("AUTH", binary), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "an authentication answered by 1 GB", Doc: rfc5321s42, Make: against(saying("AUTH", flood), nil),
			Step: "auth", Status: fail, Code: providers.CodeTooLarge},
		{Name: "an answer to AUTH that is none", Doc: rfc4954, Make: against(saying("AUTH", "250 fine"), nil),
			Step: "auth", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a password, and no authentication on offer", Doc: rfc4954, Make: against(func() *fake { return &fake{ehlo: "STARTTLS,SIZE", ehloTLS: "SIZE"} }, nil),
			Step: "auth", Status: warn, Code: providers.CodeAuthNotOffered},
		{Name: "a password, and authentication on offer only after STARTTLS", Doc: rfc4954,
			Make: against(func() *fake { return &fake{ehlo: "STARTTLS,SIZE", ehloTLS: "AUTH PLAIN"} }, map[string]any{"tls": "none"}),
			Step: "auth", Status: warn, Code: providers.CodeAuthNotOffered, Fix: map[string]any{"tls": "starttls"}},
		{Name: "a password, and authentication on offer only before STARTTLS", Doc: rfc3207,
			Make: against(func() *fake { return &fake{ehlo: "STARTTLS,AUTH PLAIN", ehloTLS: "SIZE"} }, nil),
			Step: "auth", Status: warn, Code: providers.CodeAuthNotOffered},
		{Name: "a password without a user name", Make: against(greeting(""), map[string]any{"username": nil}),
			Step: "auth", Status: warn, Code: providers.CodeNotAuthenticated},
		{Name: "a mechanism without a password", Make: against(greeting(""), map[string]any{"auth": "plain", "password": ""}),
			Step: "auth", Status: fail, Code: providers.CodeConfigIncomplete},
		{Name: "no authentication, by choice", Make: against(greeting(""), map[string]any{"auth": "none"}),
			Step: "auth", Status: warn, Code: providers.CodeNotAuthenticated},
		{Name: "a server that is gone after authenticating", Make: against(saying("NOOP", vanish), nil),
			Step: "noop", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a NOOP that hangs", Make: against(saying("NOOP", hang), nil),
			Step: "noop", Status: fail, Code: providers.CodeTimeout},

		// The permission.
		{Name: "a sender that is refused", Doc: rfc3463, Level: 2, Make: against(saying("MAIL", "553 5.7.1 Sender address rejected: not owned by user"), nil),
			Step: "sender", Status: fail, Code: providers.CodeSenderRefused},
		{Name: "a sender with letters that the server can't take", Doc: "RFC 6531 section 3.1", Level: 2, Make: against(greeting(""), map[string]any{"from": "jörg@acme.example"}),
			Step: "sender", Status: fail, Code: providers.CodeSenderRefused},
		ok("a sender with letters beyond ASCII, which the server takes", "RFC 6531 section 3.1", 3,
			against(func() *fake { return &fake{ehlo: "STARTTLS,AUTH PLAIN,SMTPUTF8"} }, map[string]any{"from": "jörg@acme.example"})),
		{Name: "no sender", Level: 2, Make: against(greeting(""), map[string]any{"from": nil}),
			Step: "sender", Status: fail, Code: providers.CodeSenderMissing},
		ok("no sender, but a user name that is one", rfc6409, 2, against(greeting(""), map[string]any{"from": nil, "username": "no-reply@acme.example"})),
		{Name: "a sender that must authenticate first, by another code", Doc: rfc4954, Level: 2,
			Make: against(saying("MAIL", "502 5.7.0 Please authenticate first"), map[string]any{"username": nil, "password": ""}),
			Step: "sender", Status: fail, Code: providers.CodeAuthRequired},
		{Name: "a relay that is denied", Doc: rfc3463, Level: 2, Make: against(saying("RCPT", "550 5.7.1 Unable to relay"), nil),
			Step: "recipient", Status: fail, Code: providers.CodeRelayDenied},
		{Name: "a relay that is denied, in other words", Doc: rfc3463, Level: 2, Make: against(saying("RCPT", "454 4.7.1 Relay access denied"), nil),
			Step: "recipient", Status: fail, Code: providers.CodeRelayDenied},
		{Name: "a recipient that is unknown", Doc: "RFC 3463 section 3.2", Level: 2, Make: against(saying("RCPT", "550 5.1.1 no such user"), nil),
			Step: "recipient", Status: fail, Code: providers.CodeRecipientRefused},
		{Name: "a recipient that is greylisted", Doc: "RFC 6647 section 2.1", Level: 2, Make: against(saying("RCPT", "451 4.7.1 try again later"), nil),
			Step: "recipient", Status: fail, Code: providers.CodeVendorError},
		{Name: "a recipient that would be a command", Level: 2, Recipient: "victim@acme.example>\r\nDATA", Make: against(greeting(""), nil),
			Step: "recipient", Status: fail, Code: providers.CodeRecipientRefused},
		{Name: "a recipient after whom the server hangs", Level: 2, Make: against(saying("RCPT", hang), nil),
			Step: "recipient", Status: fail, Code: providers.CodeTimeout},
		{Name: "a server that closes before the sender", Doc: rfc5321s38, Level: 2, Make: against(saying("MAIL", "421 4.4.2 timeout"), nil),
			Step: "sender", Status: fail, Code: providers.CodeVendorError},

		{Name: "a sender after whom the server hangs", Level: 2, Make: against(saying("MAIL", hang), nil),
			Step: "sender", Status: fail, Code: providers.CodeTimeout},
		{Name: "a sender after whom the server hangs up", Level: 2, Make: against(saying("MAIL", vanish), nil),
			Step: "sender", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a recipient after whom the server hangs up", Level: 2, Make: against(saying("RCPT", vanish), nil),
			Step: "recipient", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a reset that hangs", Level: 2, Make: against(saying("RSET", hang), nil),
			Step: "reset", Status: fail, Code: providers.CodeTimeout},
		{Name: "a reset that is refused", Doc: rfc5321s42, Level: 2, Make: against(saying("RSET", "502 5.5.1 no"), nil),
			Step: "reset", Status: fail, Code: providers.CodeProtocolError},

		// The mail.
		{Name: "a message that is refused", Doc: "RFC 5321 section 4.2.5", Level: 3, Make: against(saying(".", "554 5.7.1 spam"), nil),
			Step: "message", Status: fail, Code: providers.CodeMessageRefused},
		{Name: "a message that is refused before it is sent", Doc: "RFC 5321 section 3.3", Level: 3, Make: against(saying("DATA", "554 5.5.1 no valid recipients"), nil),
			Step: "message", Status: fail, Code: providers.CodeMessageRefused},
		{Name: "a message that nobody acknowledges", Level: 3, Make: against(saying(".", hang), nil),
			Step: "message", Status: fail, Code: providers.CodeTimeout},
		{Name: "a message that nobody wants to hear", Level: 3, Make: against(saying("DATA", hang), nil),
			Step: "message", Status: fail, Code: providers.CodeTimeout},
		{Name: "a message after which the server hangs up", Level: 3, Make: against(saying(".", vanish), nil),
			Step: "message", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a message for another time", Doc: "RFC 5321 section 4.2.5", Level: 3, Make: against(saying(".", "452 4.3.1 insufficient storage"), nil),
			Step: "message", Status: fail, Code: providers.CodeVendorError},
	}
	providertest.RunTraps(t, traps)
}
