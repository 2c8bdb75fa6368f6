package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
)

// handshakeTime bounds a handshake, so that a probe of the other mode still fits
// into the step.
const handshakeTime = providers.StepTimeout - probeTime - time.Second

// patience is how long a server may be silent before we look whether it waits for
// TLS. Some greet late on purpose, against spam: they are waited for afterwards.
const patience = 2 * time.Second

func (s *session) connect(ctx context.Context) providers.Outcome {
	conn, err := s.rt.Dial(ctx, "tcp", s.address(s.port))
	if err != nil {
		o := providers.NetworkOutcome(err)
		if o.Code == providers.CodeTimeout && s.port == 25 {
			o.Hint = "No answer in time. Most networks block port 25 to the outside: use 587 or 465."
		}
		return o
	}
	s.open(conn)
	return providers.Good()
}

func (s *session) implicitTLS(ctx context.Context) providers.Outcome {
	part, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	c, certErr, err := s.encrypt(part, s.conn)
	switch {
	case err != nil:
		return s.wrongMode(ctx, err)
	case certErr != nil:
		s.certErr = certErr
		return providers.Good()
	}
	s.open(c)
	if s.port == submissionPort {
		return providers.Warned(providers.CodeTLSWrongMode,
			"It works, though port 587 is meant for STARTTLS and 465 for TLS from the start (RFC 8314).")
	}
	return providers.Good()
}

// wrongMode judges a failed handshake: where the same port greets in plain text,
// the mode is wrong.
func (s *session) wrongMode(ctx context.Context, err error) providers.Outcome {
	s.broken = true
	o := providers.NetworkOutcome(err)
	switch o.Code {
	case providers.CodeTLSWrongMode, providers.CodeTimeout, providers.CodeConnectionReset:
	default:
		return o
	}
	switch found := s.probePlain(ctx); {
	case found.offersTLS:
		return providers.Failed(providers.CodeTLSWrongMode,
			"The server greets in plain text on this port and offers STARTTLS.").
			WithFix("Use STARTTLS", map[string]any{"tls": STARTTLS, "port": s.port})
	case found.smtp:
		return providers.Failed(providers.CodeTLSWrongMode,
			"The server greets in plain text on this port and offers no encryption at all.")
	}
	return o
}

// certificate is a step of its own: who has the wrong host name needs another
// hint than who has the wrong mode.
func (s *session) certificate(context.Context) providers.Outcome {
	if s.certErr != nil {
		return providers.NetworkOutcome(s.certErr)
	}
	chain := s.tls.ConnectionState().PeerCertificates
	return providers.Goodf("The certificate is valid until %s.", chain[0].NotAfter.UTC().Format(time.DateOnly))
}

func (s *session) greeting(ctx context.Context) providers.Outcome {
	done := s.during(ctx)
	defer done()
	if s.tls == nil && s.silent(ctx) {
		switch found := s.probeTLS(ctx, s.port); {
		case found.smtp, found.badCertificate:
			s.broken = true
			return providers.Failed(providers.CodeTLSWrongMode,
				"The server waits for TLS from the start on this port.").
				WithFix("Use TLS from the start", map[string]any{"tls": Implicit, "port": s.port})
		case found.offersTLS:
			s.broken = true
			return providers.Failed(providers.CodeProtocolError, "What answers here speaks TLS, but not SMTP. Check host and port.")
		}
		if ctx.Err() == nil {
			deadline, _ := ctx.Deadline()
			_ = s.conn.SetDeadline(deadline)
		}
	}
	r, err := s.read(ctx)
	if err != nil {
		o := s.trouble(err)
		if o.Code == providers.CodeTimeout {
			o.Hint = "The other side says nothing, where a mail server greets first. Check the port."
		}
		return o
	}
	switch {
	case r.code == 220:
		return providers.Good()
	case r.class() == 5: // RFC 5321 section 3.1: 554 where there is no service for us
		s.broken = true
		return s.failed(providers.CodeAddressNotAllowed, "The server refuses connections from our address.", r)
	}
	return s.refused(r, providers.CodeProtocolError)
}

// silent tells whether the server has not said a word for a while, or has hung up
// without one.
func (s *session) silent(ctx context.Context) bool {
	end := time.Now().Add(patience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	_ = s.conn.SetReadDeadline(end)
	_, err := s.r.Peek(1)
	return err != nil
}

// hello introduces us, before and after encryption: what was said in clear before
// is forgotten (RFC 3207 section 4.2).
func (s *session) hello(ctx context.Context) providers.Outcome {
	name := s.ehloName()
	r, err := s.command(ctx, "EHLO "+name)
	if err != nil {
		return s.trouble(err)
	}
	switch r.code {
	case 250:
		s.ext = r.extensions()
		return providers.Good()
	case 500, 502: // a server from before RFC 1869: no extensions, so no encryption
		if r, err = s.command(ctx, "HELO "+name); err != nil {
			return s.trouble(err)
		}
		s.ext = nil
		if r.code == 250 {
			return providers.Goodf("The server knows no extensions of SMTP.")
		}
	}
	if r.class() == 5 && r.code != 530 {
		return s.failed(providers.CodeHELORefused, "", r)
	}
	return s.refused(r, providers.CodeProtocolError)
}

func (s *session) startTLS(ctx context.Context) providers.Outcome {
	if _, offered := s.ext["STARTTLS"]; !offered {
		return s.noSTARTTLS(ctx, "")
	}
	r, err := s.command(ctx, "STARTTLS")
	if err != nil {
		return s.trouble(err)
	}
	if r.class() == 5 {
		return s.noSTARTTLS(ctx, " The server says: "+s.quote(r))
	}
	if r.code != 220 {
		return s.refused(r, providers.CodeProtocolError)
	}
	// Text behind the reply was put there by somebody in between: it would be read
	// as if it had come encrypted (CVE-2011-0411, from the server's side).
	if s.r.Buffered() > 0 {
		s.broken = true
		return providers.Failed(providers.CodeProtocolError, "The server sent text between its consent to STARTTLS and the encryption.")
	}
	c, certErr, err := s.encrypt(ctx, s.conn)
	if err != nil {
		s.broken = true
		o := providers.NetworkOutcome(err)
		if o.Code == providers.CodeTLSWrongMode {
			o = providers.Failed(providers.CodeTLSFailed, "The server agreed to STARTTLS and then sent plain text.")
		}
		return o
	}
	if certErr != nil {
		s.certErr = certErr
		return providers.Good()
	}
	s.open(c)
	if s.port == submissionsPort {
		return providers.Warned(providers.CodeTLSWrongMode,
			"It works, though port 465 is meant for TLS from the start and 587 for STARTTLS (RFC 8314).")
	}
	return providers.Good()
}

// noSTARTTLS offers the other port only when a mail server really answers there,
// with a certificate that verifies.
func (s *session) noSTARTTLS(ctx context.Context, said string) providers.Outcome {
	o := providers.Failed(providers.CodeStartTLSMissing, providers.CodeStartTLSMissing.Info().Hint+said)
	if s.port != submissionsPort && s.probeTLS(ctx, submissionsPort).smtp {
		o.Hint += " On port 465 it speaks TLS from the start."
		return o.WithFix("Use TLS from the start on port 465", map[string]any{"tls": Implicit, "port": int64(submissionsPort)})
	}
	return o
}

// unencrypted is the step of the mode none.
func (s *session) unencrypted(context.Context) providers.Outcome {
	hint := "The connection is not encrypted, by choice: mail travels in clear."
	if s.password != "" {
		hint = "The connection is not encrypted, by choice: mail and password travel in clear."
	}
	o := providers.Warned(providers.CodeUnencrypted, hint)
	if _, offered := s.ext["STARTTLS"]; offered {
		o.Hint += " The server offers STARTTLS."
		return o.WithFix("Use STARTTLS", map[string]any{"tls": STARTTLS})
	}
	return o
}

func (s *session) noop(ctx context.Context) providers.Outcome {
	return s.simple(ctx, "NOOP")
}

func (s *session) reset(ctx context.Context) providers.Outcome {
	return s.simple(ctx, "RSET")
}

// simple is a command that every server takes at any time.
func (s *session) simple(ctx context.Context, line string) providers.Outcome {
	r, err := s.command(ctx, line)
	if err != nil {
		return s.trouble(err)
	}
	if r.code == 250 {
		return providers.Good()
	}
	return s.refused(r, providers.CodeProtocolError)
}

// probeTime bounds a look at another mode or port.
const probeTime = 2500 * time.Millisecond

// found is what a probe saw.
type found struct {
	smtp           bool // a mail server greeted
	offersTLS      bool // it offers STARTTLS, or it spoke TLS
	badCertificate bool // TLS, but the certificate did not verify, so no greeting was read
}

// probePlain looks whether the port greets in plain text. No credential is sent.
func (s *session) probePlain(ctx context.Context) found {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := s.rt.Dial(ctx, "tcp", s.address(s.port))
	if err != nil {
		return found{}
	}
	p := &session{rt: s.rt, helo: s.helo}
	p.open(conn)
	defer p.close()
	if !p.greets(ctx) {
		return found{}
	}
	f := found{smtp: true}
	if r, err := p.command(ctx, "EHLO "+p.ehloName()); err == nil && r.code == 250 {
		_, f.offersTLS = r.extensions()["STARTTLS"]
	}
	p.quit(ctx)
	return f
}

// probeTLS looks whether a port speaks TLS, and greets inside. No credential is
// sent.
func (s *session) probeTLS(ctx context.Context, port int64) found {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := s.rt.Dial(ctx, "tcp", s.address(port))
	if err != nil {
		return found{}
	}
	defer func() { _ = conn.Close() }()
	c, certErr, err := s.encrypt(ctx, conn)
	if err != nil {
		return found{}
	}
	if certErr != nil {
		return found{offersTLS: true, badCertificate: true}
	}
	p := &session{rt: s.rt, helo: s.helo}
	p.open(c)
	f := found{offersTLS: true, smtp: p.greets(ctx)}
	p.quit(ctx)
	return f
}

func (s *session) greets(ctx context.Context) bool {
	done := s.during(ctx)
	defer done()
	r, err := s.read(ctx)
	return err == nil && r.code == 220
}

// trouble is the outcome of a conversation that broke off.
func (s *session) trouble(err error) providers.Outcome {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errTooLarge):
		return providers.Failed(providers.CodeTooLarge, "")
	case errors.Is(err, errNotSMTP):
		return providers.Failed(providers.CodeProtocolError, "What answers here does not speak SMTP. Check host and port.")
	case errors.Is(err, errInjected):
		return providers.Failed(providers.CodeConfigIncomplete, "A value of the config holds a line break.")
	case errors.As(err, &record):
		return providers.Failed(providers.CodeTLSFailed, "")
	case errors.Is(err, net.ErrClosed):
		return providers.Failed(providers.CodeConnectionReset, "")
	}
	return providers.NetworkOutcome(err)
}
