package smtp

import (
	"bufio"
	"context"
	"net/mail"
	"net/textproto"
	"strings"

	"github.com/oklog/ulid/v2"
	gomail "github.com/wneessen/go-mail"

	"github.com/patchbay-dev/patchbay/providers"
)

// addresses decides who writes to whom.
func (s *session) addresses(recipient string) {
	for _, text := range []string{s.from, s.username} {
		if a, err := mail.ParseAddress(text); err == nil {
			s.sender = a
			break
		}
	}
	s.recipient = s.sender
	if recipient != "" {
		s.recipient, s.recipientErr = mail.ParseAddress(recipient)
	}
}

func (s *session) mailFrom(ctx context.Context) providers.Outcome {
	if s.sender == nil {
		return providers.Failed(providers.CodeSenderMissing, "")
	}
	path, ok := s.path(s.sender)
	if !ok {
		return providers.Failed(providers.CodeSenderRefused, "The server can't take a sender with letters outside ASCII.")
	}
	return s.envelope(ctx, "MAIL FROM:"+path+s.utf8(), providers.CodeSenderRefused)
}

func (s *session) rcptTo(ctx context.Context) providers.Outcome {
	if s.recipientErr != nil {
		return providers.Failed(providers.CodeRecipientRefused, "The recipient is no e-mail address.")
	}
	path, ok := s.path(s.recipient)
	if !ok {
		return providers.Failed(providers.CodeRecipientRefused, "The server can't take a recipient with letters outside ASCII.")
	}
	return s.envelope(ctx, "RCPT TO:"+path, providers.CodeRecipientRefused)
}

// envelope sends MAIL or RCPT.
func (s *session) envelope(ctx context.Context, line string, refused providers.TestCode) providers.Outcome {
	r, err := s.command(ctx, line)
	if err != nil {
		return s.trouble(err)
	}
	switch {
	case r.class() == 2: // 250, and 251 for a forwarded recipient
		return providers.Good()
	// A temporary refusal to relay stays one: some servers never say it for good.
	case refused == providers.CodeRecipientRefused && relay(r):
		return s.failed(providers.CodeRelayDenied, "", r)
	// 530 is the documented code; servers have others for the same sentence.
	case r.class() == 5 && !s.authenticated && r.says("authenticate", "authentication required", "not authenticated"):
		return s.failed(providers.CodeAuthRequired, "", r)
	}
	return s.refused(r, refused)
}

// relay tells a refusal to relay from one of the recipient. RFC 3463 has 5.7.1 for
// it; 5.7.64 is Exchange Online's own.
func relay(r reply) bool {
	return r.says("5.7.1 ", "5.7.64", "relay")
}

// path is an address as commands carry it. ok is false where it has letters
// outside ASCII and the server doesn't offer SMTPUTF8 (RFC 6531).
func (s *session) path(a *mail.Address) (path string, ok bool) {
	// String quotes a local part that needs it; without a name it is "<...>".
	path = (&mail.Address{Address: a.Address}).String()
	_, wide := s.ext["SMTPUTF8"]
	return path, wide || ascii(path)
}

// utf8 announces addresses outside ASCII.
func (s *session) utf8() string {
	if ascii(s.sender.Address) && (s.recipient == nil || ascii(s.recipient.Address)) {
		return ""
	}
	if _, wide := s.ext["SMTPUTF8"]; !wide {
		return ""
	}
	return " SMTPUTF8"
}

func ascii(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 }

// send sends a real mail. It says what it is, and that it was sent by a machine
// (RFC 3834), so that no out-of-office notice comes back.
func (s *session) send(ctx context.Context) providers.Outcome {
	m, err := s.compose()
	if err != nil {
		return providers.Failed(providers.CodeMessageRefused, "The addresses don't make a valid message.")
	}
	if o := s.mailFrom(ctx); o.Status != providers.StepOK {
		return o
	}
	if o := s.rcptTo(ctx); o.Status != providers.StepOK {
		return o
	}
	r, err := s.command(ctx, "DATA")
	if err != nil {
		return s.trouble(err)
	}
	if r.code != 354 {
		return s.refused(r, providers.CodeMessageRefused)
	}
	done := s.during(ctx)
	defer done()
	w := textproto.NewWriter(bufio.NewWriter(s.conn)).DotWriter()
	if _, err := m.WriteTo(w); err != nil {
		return s.trouble(s.lost(ctx, err))
	}
	if err := w.Close(); err != nil {
		return s.trouble(s.lost(ctx, err))
	}
	if r, err = s.read(ctx); err != nil {
		return s.trouble(err)
	}
	if r.code != 250 {
		return s.refused(r, providers.CodeMessageRefused)
	}
	return providers.Goodf("The server took a test mail to %s.", providers.Quote(s.recipient.Address))
}

func (s *session) compose() (*gomail.Msg, error) {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := m.From(s.sender.String()); err != nil {
		return nil, err
	}
	if err := m.To(s.recipient.String()); err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(s.sender.Address, "@")
	// The library's own message id tells the machine's name and process id.
	m.SetMessageIDWithValue("patchbay-test-" + strings.ToLower(ulid.Make().String()) + "@" + domain)
	m.SetDate()
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.Subject("Patchbay connection test")
	m.SetBodyString(gomail.TypeTextPlain, "This is a test mail. Somebody who administers an SMTP connector of Patchbay asked for it, to see\r\n"+
		"that mail sent through it arrives. Nothing has to be done.\r\n")
	return m, nil
}
