package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
)

// session is one conversation with a server, by one goroutine.
type session struct {
	rt       providers.Runtime
	host     string
	port     int64
	mode     string
	helo     string
	auth     string
	username string
	password string
	from     string

	conn    net.Conn
	r       *bufio.Reader
	tls     *tls.Conn // nil while in clear
	certErr error     // what is wrong with the certificate; the connection is dead then
	ext     map[string]string
	broken  bool // no further command is of use

	authenticated bool

	sender, recipient *mail.Address
	recipientErr      error
	redact            *strings.Replacer
}

func newSession(rt providers.Runtime, c providers.Config) *session {
	s := &session{
		rt: rt, host: strings.TrimSuffix(c.Text("host"), "."), port: c.Int("port"), mode: modeOf(c),
		helo: c.Text("helo"), auth: c.Text("auth"), username: c.Text("username"),
		password: c.Secrets["password"].Reveal(), from: c.Text("from"), redact: strings.NewReplacer(),
	}
	if len(s.password) >= 3 {
		// Unpadded, so that a server that leaves the padding out is understood too.
		encoded := base64.RawStdEncoding.EncodeToString([]byte(s.password))
		plain := base64.RawStdEncoding.EncodeToString([]byte("\x00" + s.username + "\x00" + s.password))
		s.redact = strings.NewReplacer(s.password, "[redacted]", encoded, "[redacted]", plain, "[redacted]")
	}
	return s
}

// open begins the conversation over a connection.
func (s *session) open(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, lineLimit)
	s.ext = nil
	s.tls, _ = conn.(*tls.Conn)
}

func (s *session) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

func (s *session) address(port int64) string {
	return net.JoinHostPort(s.host, strconv.FormatInt(port, 10))
}

// during ties reads and writes to ctx until the returned function is called.
func (s *session) during(ctx context.Context) (done func()) {
	conn := s.conn
	deadline, _ := ctx.Deadline() // the zero time is none
	_ = conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// command sends a line and reads the reply. Errors: the context's, readReply's,
// those of the connection; the conversation is over then.
func (s *session) command(ctx context.Context, line string) (reply, error) {
	// What goes into a line is checked by the schema. This is the last gate: a line
	// break in it would be a second command.
	if strings.ContainsAny(line, "\r\n\x00") {
		s.broken = true
		return reply{}, errInjected
	}
	done := s.during(ctx)
	defer done()
	if _, err := s.conn.Write([]byte(line + "\r\n")); err != nil {
		return reply{}, s.lost(ctx, err)
	}
	return s.read(ctx)
}

var errInjected = errors.New("a command would hold a line break")

// read reads a reply inside during.
func (s *session) read(ctx context.Context) (reply, error) {
	r, err := readReply(s.r)
	if err != nil {
		return reply{}, s.lost(ctx, err)
	}
	// 421 says that the server closes, whatever it was asked.
	s.broken = s.broken || r.code == 421
	return r, nil
}

// lost marks the conversation as over. A deadline that the context caused is told
// as the context's error, so that a cancelled test is not taken for a slow server.
func (s *session) lost(ctx context.Context, err error) error {
	s.broken = true
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

// quit says good-bye, so that the server logs no lost connection.
func (s *session) quit(ctx context.Context) {
	if s.conn == nil || s.broken || s.certErr != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = s.command(ctx, "QUIT")
}

// tlsConfig verifies the name that the admin typed.
func (s *session) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.rt.Roots, MinVersion: tls.VersionTLS12}
}

// encrypt runs the handshake on conn. A certificate that does not verify is
// returned apart: the connection can't be used then, but TLS it was.
func (s *session) encrypt(ctx context.Context, conn net.Conn) (c *tls.Conn, certErr, err error) {
	c = tls.Client(conn, s.tlsConfig())
	err = c.HandshakeContext(ctx)
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return nil, bad, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return c, nil, nil
}

// ehloName is what we introduce ourselves with: the param helo, the process's
// host name, the machine's. RFC 5321 section 4.1.4 wants an address where there
// is no such name. Never "localhost": servers refuse it as a sign of malware.
func ehloName(helo, process, machine string, local net.Addr) string {
	for _, name := range []string{helo, process, machine} {
		if a, err := netip.ParseAddr(name); err == nil {
			return literal(a)
		}
		if name := hostName(name); name != "" {
			return name
		}
	}
	if tcp, ok := local.(*net.TCPAddr); ok {
		return literal(tcp.AddrPort().Addr().Unmap())
	}
	return "[127.0.0.1]"
}

func literal(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.WithZone("").String() + "]"
	}
	return "[" + a.String() + "]"
}

// hostName makes a machine's name fit for EHLO, "" when there is none in it.
func hostName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	// Container names have them; host names may not.
	name = strings.ReplaceAll(name, "_", "-")
	first, _, _ := strings.Cut(name, ".")
	if first == "localhost" || len(name) > 253 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return ""
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return ""
		}
	}
	return name
}

func (s *session) ehloName() string {
	machine, _ := os.Hostname() // "" is not used
	return ehloName(s.helo, s.rt.HostName, machine, s.conn.LocalAddr())
}
