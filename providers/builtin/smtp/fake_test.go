package smtp_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
)

const (
	host     = "mail.acme.example" // resolves to loopback
	username = "acme"
	password = `canary "pass' word` + "`" + ` «$HOME» \x`
)

// authority signs the certificates of all fakes.
func authority(t *testing.T) *testenv.Authority {
	t.Helper()
	shared.once.Do(func() { shared.authority = testenv.NewAuthority(t) })
	return shared.authority
}

var shared struct {
	once      sync.Once
	authority *testenv.Authority
}

// names is the resolver of the tests. A name with several addresses, by comma, has
// the first at the first look-up and the last from then on.
type names map[string]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	a, known := n[strings.TrimSuffix(host, ".")]
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if first, later, changes := strings.Cut(a, ","); changes {
		a, n[strings.TrimSuffix(host, ".")] = first, later
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// runtime is what the product gives the kind, with the real dialler. ports lets a
// fake stand on a port that needs a privilege.
func runtime(t *testing.T, ports map[string]string) providers.Runtime {
	t.Helper()
	d, err := egress.New(egress.Config{AnyLoopback: true, Resolver: names{
		host: "127.0.0.1", "localhost": "127.0.0.1", "other.acme.example": "127.0.0.1",
		"inside.acme.example": "10.1.2.3", "metadata.acme.example": "169.254.169.254",
		"rebinds.acme.example": "127.0.0.1,10.1.2.3",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return providers.Runtime{
		Roots: authority(t).Roots(), HostName: "app.patchbay.example",
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			name, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if to, moved := ports[port]; moved {
				address = net.JoinHostPort(name, to)
			}
			return d.DialContext(ctx, network, address)
		},
	}
}

// bound is a provider with a way to the network.
func bound(rt providers.Runtime) providers.Provider { return smtp.New().Bind(rt) }

// input is what an admin would have entered. nil takes a param away.
func input(port int, params map[string]any) providers.Input {
	all := map[string]any{"host": host, "port": port, "username": username, "from": "Acme <no-reply@acme.example>"}
	for name, v := range params {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	in := providers.Input{Params: all, Secrets: secret.Map{"password": secret.New(password)}}
	if p, own := all["password"]; own {
		delete(all, "password")
		in.Secrets["password"] = secret.New(p.(string))
		if p == "" {
			delete(in.Secrets, "password")
		}
	}
	return in
}

// What a fake may answer instead of a reply.
const (
	hang    = "HANG"    // nothing, ever
	vanish  = "VANISH"  // the connection is closed
	flood   = "FLOOD"   // lines without end
	endless = "ENDLESS" // a line without end
	binary  = "\x00\x01\x02\x03\xff\xfe\r\n"
)

// fake is a mail server whose every word can be another.
type fake struct {
	implicit bool
	cert     *tls.Certificate // nil: one for host
	greeting string
	ehlo     string // the extensions in clear, by comma
	ehloTLS  string // the same under TLS; "" is ehlo without STARTTLS
	replies  map[string]string
	auth     func(p *peer, line string) // the exchange; nil answers 235
	maxTLS   uint16
	delay    time.Duration // before each reply

	mu    sync.Mutex
	lines []string // the commands that came
}

// peer is a fake's side of one connection.
type peer struct {
	net.Conn
	r   *bufio.Reader
	tls bool
}

func (p *peer) say(text string) { fmt.Fprintf(p, "%s\r\n", text) }

func (p *peer) hear() (string, error) {
	line, err := p.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// start runs the fake until the test ends and returns its port.
func (f *fake) start(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if f.cert == nil {
		c := authority(t).Issue(t, host)
		f.cert = &c
	}
	var running sync.WaitGroup
	var open sync.Map
	t.Cleanup(func() {
		l.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			running.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// heard tells what came, for tests of what must not be sent.
func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.lines...)
}

func (f *fake) serve(conn net.Conn) {
	p := &peer{Conn: conn, r: bufio.NewReader(conn)}
	if f.implicit && !f.encrypt(p) {
		return
	}
	greeting := f.greeting
	if greeting == "" {
		greeting = "220 " + host + " ESMTP"
	}
	if !p.answer(greeting) {
		return
	}
	for {
		line, err := p.hear()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		time.Sleep(f.delay)
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if p.tls && f.replies[verb+" TLS"] != "" {
			verb += " TLS"
		}
		if special, ok := f.replies[verb]; ok {
			if !p.answer(special) {
				return
			}
			if verb != "DATA" || special[0] != '3' {
				continue
			}
		}
		switch verb {
		case "EHLO":
			p.say(f.extensions(p.tls))
		case "STARTTLS":
			p.say("220 go ahead")
			if !f.encrypt(p) {
				return
			}
		case "AUTH":
			if f.auth != nil {
				f.auth(p, line)
			} else {
				p.say("235 2.7.0 welcome")
			}
		case "DATA":
			if f.replies["DATA"] == "" {
				p.say("354 go on")
			}
			for line != "." {
				if line, err = p.hear(); err != nil {
					return
				}
			}
			end := f.replies["."]
			if end == "" {
				end = "250 2.0.0 taken"
			}
			if !p.answer(end) {
				return
			}
		case "QUIT":
			p.say("221 bye")
			return
		default:
			p.say("250 2.0.0 fine")
		}
	}
}

func (f *fake) extensions(encrypted bool) string {
	ext := f.ehlo
	if ext == "" {
		ext = "STARTTLS,AUTH PLAIN LOGIN"
	}
	if f.implicit || encrypted {
		ext = strings.ReplaceAll(ext, "STARTTLS,", "")
		if f.ehloTLS != "" {
			ext = f.ehloTLS
		}
	}
	lines := append([]string{"hello"}, strings.Split(ext, ",")...)
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\r\n")
}

func (f *fake) encrypt(p *peer) bool {
	c := tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{*f.cert}, MaxVersion: f.maxTLS})
	if c.Handshake() != nil {
		return false
	}
	p.Conn, p.r, p.tls = c, bufio.NewReader(c), true
	return true
}

// answer says a reply or does what it stands for, and tells whether the
// conversation goes on.
func (p *peer) answer(text string) bool {
	if before, last, ok := strings.Cut(text, "\r\n"+hang); ok && last == "" {
		p.say(before)
		text = hang
	}
	switch text {
	case hang:
		_, _ = io.Copy(io.Discard, p.r) // until the other side, or the test, ends it
		return false
	case vanish:
		return false
	case flood:
		for range 1 << 24 { // 1 GiB
			if _, err := fmt.Fprintf(p, "220-%s\r\n", strings.Repeat("x", 58)); err != nil {
				return false
			}
		}
		return false
	case endless:
		chunk := strings.Repeat("2", 1<<16)
		for range 1 << 14 { // 1 GiB
			if _, err := p.Write([]byte(chunk)); err != nil {
				return false
			}
		}
		return false
	}
	p.say(text)
	return !strings.HasPrefix(text, "421")
}

// ask sends a challenge and reads the answer, both in base64.
func (p *peer) ask(challenge string) (string, error) {
	p.say("334 " + base64.StdEncoding.EncodeToString([]byte(challenge)))
	line, err := p.hear()
	if err != nil {
		return "", err
	}
	if line == "*" {
		return "", errors.New("taken back")
	}
	b, err := base64.StdEncoding.DecodeString(line)
	return string(b), err
}

// verdict ends an exchange.
func (p *peer) verdict(good bool) {
	if good {
		p.say("235 2.7.0 welcome")
	} else {
		p.say("535 5.7.8 no")
	}
}

func authPlain(p *peer, line string) {
	b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "AUTH PLAIN "))
	p.verdict(string(b) == "\x00"+username+"\x00"+password)
}

func authLogin(p *peer, _ string) {
	user, _ := p.ask("Username:")
	pass, _ := p.ask("Password:")
	p.verdict(user == username && pass == password)
}

func authCRAM(p *peer, _ string) {
	const challenge = "<1896.697170952@mail.acme.example>"
	answer, _ := p.ask(challenge)
	want := hmac.New(md5.New, []byte(password))
	want.Write([]byte(challenge))
	p.verdict(answer == fmt.Sprintf("%s %x", username, want.Sum(nil)))
}

// authSCRAM is the server's side of RFC 5802 for one user. edit may spoil what it
// says: "first" is the message with salt and iterations, "final" its proof.
func authSCRAM(name string, h func() hash.Hash, edit map[string]string) func(*peer, string) {
	return func(p *peer, line string) {
		if line != "AUTH "+name {
			p.say("501 not that")
			return
		}
		first, err := p.ask("")
		if err != nil {
			return
		}
		bare := strings.TrimPrefix(first, "n,,")
		_, nonce, _ := strings.Cut(bare, "r=")
		const salt, iterations = "pepper and salt", 4096
		serverFirst := fmt.Sprintf("r=%sserver,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString([]byte(salt)), iterations)
		if e := edit["first"]; e != "" {
			serverFirst = strings.ReplaceAll(e, "NONCE", nonce)
		}
		last, err := p.ask(serverFirst)
		if err != nil {
			p.say("501 5.7.0 taken back")
			return
		}
		if e := edit["final"]; e == "skip" {
			p.say("235 2.7.0 welcome")
			return
		}
		withoutProof, proof, _ := strings.Cut(last, ",p=")
		key, err := pbkdf2.Key(h, password, []byte(salt), iterations, h().Size())
		if err != nil {
			p.say("454 broken")
			return
		}
		message := bare + "," + serverFirst + "," + withoutProof
		clientKey := mac(h, key, "Client Key")
		stored := h()
		stored.Write(clientKey)
		signature := mac(h, stored.Sum(nil), message)
		for i := range signature {
			signature[i] ^= clientKey[i]
		}
		if base64.StdEncoding.EncodeToString(signature) != proof {
			p.say("535 5.7.8 no")
			return
		}
		final := "v=" + base64.StdEncoding.EncodeToString(mac(h, mac(h, key, "Server Key"), message))
		if e := edit["final"]; e != "" {
			final = e
		}
		if _, err := p.ask(final); err != nil {
			p.say("501 5.7.0 taken back")
			return
		}
		p.say("235 2.7.0 welcome")
	}
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func scram256(edit map[string]string) func(*peer, string) {
	return authSCRAM("SCRAM-SHA-256", sha256.New, edit)
}

func scram1(edit map[string]string) func(*peer, string) {
	return authSCRAM("SCRAM-SHA-1", sha1.New, edit)
}

// authXOAUTH2 refuses every token in the way of Google's servers.
func authXOAUTH2(p *peer, _ string) {
	answer, err := p.ask(`{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}`)
	if err != nil || answer != "" {
		p.say("501 5.5.2 an empty line was expected")
		return
	}
	p.say("535-5.7.8 Username and Password not accepted. For more information, go to\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials")
}

// moved is the mapping of a well-known port to a fake's.
func moved(from, to int) map[string]string {
	return map[string]string{strconv.Itoa(from): strconv.Itoa(to)}
}
