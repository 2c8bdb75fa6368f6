package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

func TestReadReply(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		in   string
		code int
		text string
		err  error
	}{
		"one line":             {"220 hello\r\n", 220, "220 hello", nil},
		"three":                {"250-a\r\n250-b\r\n250 c\r\n", 250, "250 a b c", nil},
		"a bare code":          {"250\r\n", 250, "250 ", nil},
		"a bare line feed":     {"250 a\n", 250, "250 a", nil},
		"two codes":            {"250-a\r\n251 b\r\n", 0, "", errNotSMTP},
		"a code too low":       {"199 a\r\n", 0, "", errNotSMTP},
		"a code too high":      {"600 a\r\n", 0, "", errNotSMTP},
		"letters":              {"2x0 a\r\n", 0, "", errNotSMTP},
		"another separator":    {"220_a\r\n", 0, "", errNotSMTP},
		"nothing":              {"\r\n", 0, "", errNotSMTP},
		"the end":              {"", 0, "", io.EOF},
		"the end in the midst": {"250-a\r\n", 0, "", io.EOF},
		"a long line":          {"220 " + strings.Repeat("x", lineLimit) + "\r\n", 0, "", errTooLarge},
		"many lines":           {strings.Repeat("220-"+strings.Repeat("x", 1000)+"\r\n", 70), 0, "", errTooLarge},
		"the longest that may": {"334 " + strings.Repeat("x", 12288) + "\r\n", 334, "334 " + strings.Repeat("x", 12288), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := readReply(bufio.NewReaderSize(strings.NewReader(row.in), lineLimit))
			if !errors.Is(err, row.err) || err == nil && (r.code != row.code || r.text() != row.text) {
				t.Errorf("%d %q, %v", r.code, r.text(), err)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	ext := reply{code: 250, lines: []string{"hello", "size 1000", "AUTH plain LOGIN", "AUTH=CRAM-MD5", "starttls", ""}}.extensions()
	if ext["AUTH"] != "PLAIN LOGIN CRAM-MD5" || ext["SIZE"] != "1000" {
		t.Errorf("%q", ext)
	}
	if _, ok := ext["STARTTLS"]; !ok {
		t.Errorf("%q", ext)
	}
}

func TestEHLOName(t *testing.T) {
	t.Parallel()
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}
	for name, row := range map[string]struct{ helo, process, machine, want string }{
		"the param first":      {"a.example", "b.example", "c.example", "a.example"},
		"then the process":     {"", "b.example", "c.example", "b.example"},
		"then the machine":     {"", "", "c.example", "c.example"},
		"localhost is no name": {"", "localhost", "localhost.localdomain", "[192.0.2.1]"},
		"nothing":              {"", "", "", "[192.0.2.1]"},
		"what can't be one":    {"", "-", "..", "[192.0.2.1]"},
		"letters beyond ASCII": {"", "bücher.example", "c.example", "c.example"},
		"a second command":     {"a\r\nRCPT TO:<x>", "", "c.example", "c.example"},
		"an IPv6 zone":         {"fe80::1%eth0", "", "", "[IPv6:fe80::1]"},
	} {
		if got := ehloName(row.helo, row.process, row.machine, local); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
	if got := ehloName("", "", "", &net.TCPAddr{IP: net.ParseIP("2001:db8::2")}); got != "[IPv6:2001:db8::2]" {
		t.Errorf("over IPv6: %s", got)
	}
}

// FuzzReply: whatever a server sends is a reply or an error, within the limits,
// and what is made of it goes on one line.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"220 hello\r\n", "250-a\r\n250 AUTH PLAIN\r\n", "250-AUTH=\r\n250\r\n", "\x00\xff", "334 \r\n", "2\r\n", "220-\xe2\x80\xa8\r\n220 \x1b[31m\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(string(data)), lineLimit))
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.text()) > replyLimit+4 {
			t.Fatalf("%d with %d lines", r.code, len(r.lines))
		}
		if strings.ContainsAny(providers.Quote(r.text()), "\r\n\x00\x1b") {
			t.Errorf("%q", providers.Quote(r.text()))
		}
		for name := range r.extensions() {
			if name != strings.ToUpper(name) {
				t.Errorf("extension %q", name)
			}
		}
	})
}

// FuzzConversation holds whole conversations with a server that says anything.
func FuzzConversation(f *testing.F) {
	for _, seed := range []string{
		"220 a\r\n250-b\r\n250 AUTH PLAIN\r\n235 c\r\n250 d\r\n250 e\r\n250 f\r\n250 g\r\n221 h\r\n",
		"220 a\r\n250 AUTH SCRAM-SHA-256\r\n334 \r\n334 cj0=\r\n501 x\r\n",
		"220 a\r\n250 STARTTLS\r\n220 b\r\n", "421 a\r\n", "",
	} {
		f.Add([]byte(seed), 0)
		f.Add([]byte(seed), 2)
	}
	options := New().Schema().Param("auth").Options
	f.Fuzz(func(t *testing.T, data []byte, choice int) {
		auth := options[uint(choice)%uint(len(options))].Value
		rt := providers.Runtime{HostName: "app.example", DialContext: func(context.Context, string, string) (net.Conn, error) {
			return &recorded{Reader: strings.NewReader(string(data))}, nil
		}}
		c := providers.Config{Kind: "smtp", Params: map[string]any{
			"host": "mail.example", "port": int64(25), "tls": "none", "auth": auth, "username": "u", "from": "a@b.example",
		}, Secrets: secret.Map{"password": secret.New("canary-fuzz")}}
		begun := time.Now()
		r, err := New().Bind(rt).TestConnection(t.Context(), c, providers.TestOptions{Level: 3})
		if err != nil || len(r.Steps) == 0 || time.Since(begun) > providers.TestTimeout {
			t.Errorf("%+v, %v after %s", r, err, time.Since(begun))
		}
		for _, s := range r.Steps {
			if strings.ContainsAny(s.Hint, "\r\n\x00") || strings.Contains(s.Hint, "canary-fuzz") {
				t.Errorf("hint %q", s.Hint)
			}
		}
	})
}

// recorded is a connection whose other side said everything at once.
type recorded struct {
	net.Conn
	io.Reader

	written int
}

func (c *recorded) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c *recorded) Write(b []byte) (int, error)      { c.written += len(b); return len(b), nil }
func (c *recorded) Close() error                     { return nil }
func (c *recorded) LocalAddr() net.Addr              { return nil }
func (c *recorded) SetDeadline(time.Time) error      { return nil }
func (c *recorded) SetReadDeadline(time.Time) error  { return nil }
func (c *recorded) SetWriteDeadline(time.Time) error { return nil }

func TestNoCommandHoldsALineBreak(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"MAIL FROM:<a>\r\nDATA", "NOOP\n", "NOOP\x00"} {
		conn := &recorded{Reader: strings.NewReader("250 ok\r\n")}
		s := &session{}
		s.open(conn)
		if _, err := s.command(t.Context(), line); !errors.Is(err, errInjected) || conn.written > 0 {
			t.Errorf("%q: %v, %d bytes were written", line, err, conn.written)
		}
	}
}
