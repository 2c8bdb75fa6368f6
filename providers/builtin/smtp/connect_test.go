package smtp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	gomail "github.com/wneessen/go-mail"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// test decodes what an admin entered and runs a connection test.
func test(t *testing.T, p providers.Provider, in providers.Input, o providers.TestOptions) providers.TestReport {
	t.Helper()
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.TestConnection(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	providertest.CheckReport(t, c, r)
	return r
}

// An app knows nothing but the backend. What it sends has to arrive.
func TestDeliveryWithTheBackendAlone(t *testing.T) {
	t.Parallel()
	server := testenv.SMTP(t)
	p := smtp.New()
	c, err := p.Schema().Decode(input(server.Port, map[string]any{"host": server.Host, "password": server.Password}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Backend(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if b.Params["tls"] != smtp.STARTTLS {
		t.Fatalf("tls is %v", b.Params["tls"])
	}
	text := func(name string) string { v, _ := b.Params[name].(string); return v }
	client, err := gomail.NewClient(text("host"), gomail.WithPort(int(b.Params["port"].(int64))),
		gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithTLSConfig(&tls.Config{ServerName: text("host"), RootCAs: server.Roots}),
		gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(text("username")), gomail.WithPassword(b.Secrets["password"].Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	const to = "delivery@example.org"
	m := gomail.NewMsg()
	if err := errors.Join(m.From(text("from")), m.To(to)); err != nil {
		t.Fatal(err)
	}
	m.Subject("a real mail")
	m.SetBodyString(gomail.TypeTextPlain, "sent with what was resolved")
	if err := client.DialAndSendWithContext(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := server.Received(t, to)
	if len(got) != 1 || got[0].Subject != "a real mail" || got[0].From != "no-reply@acme.example" || !strings.Contains(got[0].Text, "with what was resolved") {
		t.Fatalf("what arrived: %+v", got)
	}
}

func TestTheTestMailSaysWhatItIs(t *testing.T) {
	t.Parallel()
	server := testenv.SMTP(t)
	p, in := mailpit(map[string]any{"from": "Acmé GmbH <bills@acme.example>"})(t)
	for recipient, to := range map[string]string{"Anna <anna@acme.example>": "anna@acme.example", "": "bills@acme.example"} {
		r := test(t, p, in, providers.TestOptions{Level: 3, Recipient: recipient})
		if !r.OK || r.Level != 3 {
			t.Fatalf("%+v", r)
		}
		mails := server.Received(t, to)
		if len(mails) != 1 {
			t.Fatalf("%d mails to %s", len(mails), to)
		}
		m := mails[0]
		if m.Subject != "Patchbay connection test" || m.From != "bills@acme.example" || !strings.Contains(m.Text, "This is a test mail.") {
			t.Errorf("the mail is %+v", m)
		}
		for _, want := range []string{"Auto-Submitted: auto-generated\r\n", "@acme.example>\r\n", "Date: "} {
			if !strings.Contains(m.Raw, want) {
				t.Errorf("the mail lacks %q:\n%s", want, m.Raw)
			}
		}
	}
	// Levels 1 and 2 send nothing.
	if r := test(t, p, in, providers.TestOptions{Level: 2, Recipient: "nobody@acme.example"}); !r.OK {
		t.Errorf("%+v", r)
	}
	if mails := server.Received(t, "nobody@acme.example"); len(mails) > 0 {
		t.Errorf("level 2 sent %d mails", len(mails))
	}
}

// Whoever stands in between can make a server look as if it had no STARTTLS: the
// password must not follow.
func TestNoSecretBeforeTLS(t *testing.T) {
	t.Parallel()
	foreign := testenv.NewAuthority(t).Issue(t, host)
	for name, f := range map[string]*fake{
		"no STARTTLS on offer": {ehlo: "AUTH PLAIN LOGIN"},
		"STARTTLS refused":     {replies: map[string]string{"STARTTLS": "454 4.7.0 not now"}},
		"a foreign authority":  {cert: &foreign},
		"text injected":        {replies: map[string]string{"STARTTLS": "220 go ahead\r\n250-AUTH PLAIN\r\n250 ok"}},
	} {
		for _, mode := range []any{nil, "starttls"} {
			t.Run(fmt.Sprintf("%s %v", name, mode), func(t *testing.T) {
				t.Parallel()
				f := &fake{ehlo: f.ehlo, replies: f.replies, cert: f.cert}
				if r := test(t, bound(runtime(t, nil)), input(f.start(t), map[string]any{"tls": mode, "auth": "plain"}), providers.TestOptions{}); r.OK {
					t.Errorf("%+v", r)
				}
				for _, line := range f.heard() {
					if strings.HasPrefix(line, "AUTH") {
						t.Error("the credentials were sent in clear")
					}
				}
			})
		}
	}
	t.Run("but by choice", func(t *testing.T) {
		t.Parallel()
		f := &fake{ehlo: "AUTH PLAIN", auth: authPlain}
		r := test(t, bound(runtime(t, nil)), input(f.start(t), map[string]any{"tls": "none"}), providers.TestOptions{})
		if !r.OK || !slices.ContainsFunc(r.Steps, func(s providers.TestStep) bool { return s.Code == providers.CodeUnencrypted }) {
			t.Errorf("%+v", r)
		}
	})
}

// A cut-off secret is one that a search does not find.
func TestASecretThatIsRepeatedIsNotCutInHalf(t *testing.T) {
	t.Parallel()
	for pad := 150; pad < 200; pad += 7 {
		f := &fake{replies: map[string]string{"AUTH": "535 5.7.8 " + strings.Repeat("x", pad) + password}}
		r := test(t, bound(runtime(t, nil)), input(f.start(t), nil), providers.TestOptions{})
		if text := providertest.Render(r); strings.Contains(text, "canary") {
			t.Errorf("after %d letters: %s", pad, text)
		}
	}
}

func TestWhatIsSaidAtTheDoor(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		helo    any
		process string
		want    string
	}{
		"the param":            {"relay.acme.example", "app.patchbay.example", "EHLO relay.acme.example"},
		"a param that's an IP": {"192.0.2.7", "", "EHLO [192.0.2.7]"},
		"an IPv6 param":        {"2001:db8::1", "", "EHLO [IPv6:2001:db8::1]"},
		"the process":          {nil, "app.patchbay.example", "EHLO app.patchbay.example"},
		"a container's name":   {nil, "My_App.Example", "EHLO my-app.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			rt := runtime(t, nil)
			rt.HostName = row.process
			test(t, bound(rt), input(f.start(t), map[string]any{"helo": row.helo}), providers.TestOptions{})
			if lines := f.heard(); lines[0] != row.want || strings.Count(strings.Join(lines, "\n"), row.want) != 2 {
				t.Errorf("%q was said", lines)
			}
		})
	}
}

func TestHowAddressesAreSpelt(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ from, to, mail, rcpt string }{
		"with names": {"Acme <bills@acme.example>", "Anna <anna@acme.example>", "MAIL FROM:<bills@acme.example>", "RCPT TO:<anna@acme.example>"},
		"alone":      {"bills@acme.example", "", "MAIL FROM:<bills@acme.example>", "RCPT TO:<bills@acme.example>"},
		"quoted":     {`"a b"@acme.example`, "", `MAIL FROM:<"a b"@acme.example>`, `RCPT TO:<"a b"@acme.example>`},
		"wide":       {"bills@acme.example", "jörg@acme.example", "MAIL FROM:<bills@acme.example> SMTPUTF8", "RCPT TO:<jörg@acme.example>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{ehlo: "STARTTLS,AUTH PLAIN,SMTPUTF8"}
			p := bound(runtime(t, nil))
			c, err := p.Schema().Decode(input(f.start(t), nil), providers.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			c.Params["from"] = row.from
			r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: 2, Recipient: row.to})
			if err != nil || !r.OK || !slices.Contains(f.heard(), row.mail) || !slices.Contains(f.heard(), row.rcpt) {
				t.Errorf("%q was said: %+v, %v", f.heard(), r, err)
			}
		})
	}
}

// The schema refuses line breaks. Should a value get past it, the conversation
// must not carry it: it would be a second command.
func TestNoLineBreakBecomesACommand(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(c *providers.Config){
		"username": func(c *providers.Config) { c.Params["username"] = "a\r\nRCPT TO:<x@evil.example>" },
		"from":     func(c *providers.Config) { c.Params["from"] = "a@acme.example>\r\nRCPT TO:<x@evil.example>" },
		"helo":     func(c *providers.Config) { c.Params["helo"] = "a\r\nRCPT TO:<x@evil.example>" },
		"quoted":   func(c *providers.Config) { c.Params["from"] = "\"a\r\nRCPT TO:<x@evil.example>\"@acme.example" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{ehlo: "STARTTLS,AUTH LOGIN", auth: authLogin}
			p := bound(runtime(t, nil))
			c, err := p.Schema().Decode(input(f.start(t), nil), providers.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			edit(&c)
			r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: 2, Recipient: "to@acme.example"})
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range f.heard() {
				if strings.Contains(line, "evil.example") {
					t.Errorf("%q was said: %+v", line, r)
				}
			}
		})
	}
}

func TestACancelledTestEndsAtOnce(t *testing.T) {
	t.Parallel()
	heard := make(chan struct{})
	f := &fake{ehlo: "STARTTLS,AUTH LOGIN", auth: func(p *peer, _ string) {
		close(heard)
		p.answer(hang)
	}}
	p := bound(runtime(t, nil))
	c, err := p.Schema().Decode(input(f.start(t), nil), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-heard
		cancel()
	}()
	begun := time.Now()
	r, err := p.TestConnection(ctx, c, providers.TestOptions{})
	if err != nil || r.OK || r.Code() != providers.CodeCancelled || time.Since(begun) > providers.StepTimeout/2 {
		t.Errorf("%+v, %v after %s", r, err, time.Since(begun))
	}
}

// account is a backend of go-smtp, for a second opinion about the conversation.
type account struct{ refuse map[string]error }

func (a account) NewSession(*gosmtp.Conn) (gosmtp.Session, error) {
	return &mailbox{account: a}, a.refuse["connect"]
}

type mailbox struct {
	account

	known bool
}

func (m *mailbox) AuthMechanisms() []string { return []string{sasl.Plain} }

func (m *mailbox) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != username || pass != password {
			return gosmtp.ErrAuthFailed
		}
		m.known = true
		return nil
	}), nil
}

func (m *mailbox) Mail(string, *gosmtp.MailOptions) error {
	if !m.known {
		return gosmtp.ErrAuthRequired
	}
	return m.refuse["MAIL"]
}

func (m *mailbox) Rcpt(string, *gosmtp.RcptOptions) error { return m.refuse["RCPT"] }

func (m *mailbox) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return m.refuse["DATA"]
}

func (m *mailbox) Reset()        {}
func (m *mailbox) Logout() error { return nil }

func TestAgainstAnotherServer(t *testing.T) {
	t.Parallel()
	refused := func(code int, text string) error {
		return &gosmtp.SMTPError{Code: code, EnhancedCode: gosmtp.EnhancedCodeNotSet, Message: text}
	}
	for name, row := range map[string]struct {
		refuse   map[string]error
		implicit bool
		params   map[string]any
		step     string
		code     providers.TestCode
	}{
		"STARTTLS":           {},
		"TLS from the start": {implicit: true, params: map[string]any{"tls": "implicit"}},
		"a wrong password":   {params: map[string]any{"password": "canary-wrong"}, step: "auth", code: providers.CodeAuthFailed},
		"no password":        {params: map[string]any{"password": ""}, step: "sender", code: providers.CodeAuthRequired},
		"no service":         {refuse: map[string]error{"connect": refused(421, "4.3.2 busy")}, step: "ehlo", code: providers.CodeVendorError},
		"a sender refused":   {refuse: map[string]error{"MAIL": refused(550, "5.7.1 not yours")}, step: "sender", code: providers.CodeSenderRefused},
		"a relay denied":     {refuse: map[string]error{"RCPT": refused(554, "5.7.1 Relay access denied")}, step: "recipient", code: providers.CodeRelayDenied},
		"a message refused":  {refuse: map[string]error{"DATA": refused(554, "5.6.0 no")}, step: "message", code: providers.CodeMessageRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gosmtp.NewServer(account{row.refuse})
			s.Domain = host
			s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{authority(t).Issue(t, host)}}
			s.ErrorLog = quiet{}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			port := l.Addr().(*net.TCPAddr).Port
			if row.implicit {
				l = tls.NewListener(l, s.TLSConfig)
			}
			go s.Serve(l)
			r := test(t, bound(runtime(t, nil)), input(port, row.params), providers.TestOptions{Level: 3})
			failed := ""
			for _, s := range r.Steps {
				if s.Status == providers.StepFail {
					failed = s.Name
				}
			}
			if failed != row.step || r.Code() != row.code {
				t.Errorf("want %s %s: %s", row.step, row.code, providertest.Render(r))
			}
		})
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
