package egress

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

var nobody = netip.MustParseAddr("192.0.2.1") // TEST-NET-1

func at(host string, port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

// What dev and the operator open is really reached: a dialler that refuses
// everything would pass the other suites.
func TestWhatIsAllowedIsReached(t *testing.T) {
	t.Parallel()
	dns := egresstest.StartDNS(t)
	_, port := origin(t, func(http.ResponseWriter, *http.Request) {})
	dns.Set("loopback.example.com", []netip.Addr{loopbacks[0]})
	for name, c := range map[string]Config{
		"any loopback": {AnyLoopback: true, Resolver: dns.Resolver()}, "its port": {AllowLoopback: []uint16{port}, Resolver: dns.Resolver()},
	} {
		d := newDialer(t, c)
		for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "::ffff:127.0.0.1", "１２７。０。０。１", "loopback.example.com", "LOOPBACK.example.com."} {
			if err := d.CheckHost(host); err != nil {
				t.Errorf("%s: CheckHost(%q): %v", name, host, err)
			}
			if err := reached(t, d, "tcp", at(host, port)); err != nil {
				t.Errorf("%s: %s: %v", name, host, err)
			}
		}
		if err := reached(t, d, "tcp6", at("127.0.0.1", port)); !errors.Is(err, ErrResolve) {
			t.Errorf("%s: IPv4 under tcp6: %v", name, err)
		}
	}
	for _, own := range egresstest.Plant(t).Private {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", at(own.String(), 0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		dns.Set("mail.corp.example", []netip.Addr{own})
		dns.Set("other.corp.example", []netip.Addr{own})
		entry := own.String()
		if own.Is6() {
			entry = "[" + entry + "]"
		}
		for _, row := range []struct {
			allow, host string
			open        bool
		}{
			{own.String(), own.String(), true},
			{entry + ":" + strconv.Itoa(int(port)), own.String(), true},
			{entry + ":" + strconv.Itoa(int(port^1)), own.String(), false},
			{netip.PrefixFrom(own, 24).Masked().String(), own.String(), true},
			{own.String(), "other.corp.example", true},
			{"mail.corp.example", "mail.corp.example", true},
			{"mail.corp.example", "MAIL.corp.example.", true},
			{at("mail.corp.example", port), "mail.corp.example", true},
			{at("mail.corp.example", port^1), "mail.corp.example", false},
			{"mail.corp.example", "other.corp.example", false},
			{"mail.corp.example", own.String(), false},
			{"corp.example", "mail.corp.example", false},
		} {
			d := newDialer(t, Config{Allow: []string{row.allow}, Resolver: dns.Resolver()})
			err := reached(t, d, "tcp", at(row.host, port))
			if row.open && err != nil || !row.open && !errors.Is(err, ErrDenied) {
				t.Errorf("allow %s, dial %s: %v", row.allow, row.host, err)
			}
		}
	}
}

// An allowed name that comes to mean loopback or a metadata server is no way in.
func TestAnAllowedNameIsCheckedAsAddressToo(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	dns := egresstest.StartDNS(t)
	d := newDialer(t, Config{Allow: []string{"mail.corp.example"}, Resolver: dns.Resolver()})
	for _, a := range []string{"127.0.0.1", "::1", "169.254.169.254", "168.63.129.16", "64:ff9b::7f00:1", "fd00:ec2::254", "0.0.0.0"} {
		dns.Set("mail.corp.example", []netip.Addr{netip.MustParseAddr(a)})
		if err := reached(t, d, "tcp", at("mail.corp.example", p.Port)); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", a, err)
		}
	}
	p.Check(t)
}

func TestOwnServersByName(t *testing.T) {
	t.Parallel()
	dns := egresstest.StartDNS(t)
	first, second := nobody, netip.MustParseAddr("192.0.2.2")
	dns.Set("vault.corp.example", []netip.Addr{first})
	dns.Set("redis.corp.example", []netip.Addr{loopbacks[0]})
	dns.Set("front.example.com", []netip.Addr{first})
	dns.Set("mixed.example.com", []netip.Addr{second, first})
	dns.Set("loop.example.com", []netip.Addr{netip.IPv6Loopback()})
	d := newDialer(t, Config{
		Allow: []string{"192.0.2.0/24", "vault.corp.example"}, AnyLoopback: true, Resolver: dns.Resolver(),
		DenyHosts: []string{"Vault.Corp.example:8200", "redis.corp.example:6379", "gone.corp.example:8200"},
	})
	for _, address := range []string{
		"vault.corp.example:8200", "VAULT.corp.example.:8200", "front.example.com:8200", "mixed.example.com:8200", "192.0.2.1:8200",
		"[::ffff:192.0.2.1]:8200", "[64:ff9b::192.0.2.1]:8200", "127.0.0.1:6379", "localhost:6379", "loop.example.com:6379",
	} {
		if err := reached(t, d, "tcp", address); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"vault.corp.example:8201", "front.example.com:8201", "192.0.2.2:8200", "127.0.0.1:6378"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := d.DialContext(ctx, "tcp", address); err == nil || errors.Is(err, ErrDenied) {
			t.Errorf("%s, which is none of them: %v", address, err)
		}
		cancel()
	}
}

// names is a Resolver in memory, for the times that a real one can't keep.
type names struct {
	mu    sync.Mutex
	asked []string
	of    func(ctx context.Context, name string) ([]netip.Addr, error)
}

func (n *names) LookupNetIP(ctx context.Context, _, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked = append(n.asked, name)
	n.mu.Unlock()
	return n.of(ctx, name)
}

var (
	errNotFound = &net.DNSError{Err: "no such host", Name: "x", Server: "10.96.0.10:53", IsNotFound: true}
	errServer   = &net.DNSError{Err: "server misbehaving", Name: "x", Server: "10.96.0.10:53", IsTemporary: true}
)

// An own server's addresses are asked for again, are kept when the answer rotates
// or fails, and unknown ones close the port.
func TestOwnServersMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer, failure := []netip.Addr(nil), error(errServer)
		n := &names{of: func(context.Context, string) ([]netip.Addr, error) { return answer, failure }}
		b := &backend{hostPort: hostPort{"vault", 8200}, seen: map[netip.Addr]time.Time{}}
		at := func(a string) string {
			there, err := b.answersAt(t.Context(), n, netip.MustParseAddr(a))
			return fmt.Sprint(there, " ", err != nil)
		}
		step := func(name, a, want string) {
			t.Helper()
			if got := at(a); got != want {
				t.Errorf("%s: %s is it: %s, want %s", name, a, got, want)
			}
		}
		step("never known", "10.0.0.1", "false true")
		failure = errNotFound
		step("no such name", "10.0.0.1", "false false")
		time.Sleep(backendFresh)
		answer, failure = []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		step("known", "10.0.0.1", "true false")
		step("known", "10.0.0.2", "false false")
		if got := len(n.asked); got != 3 {
			t.Errorf("asked %d times, want 3", got)
		}
		answer = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
		step("not asked again yet", "10.0.0.2", "false false")
		time.Sleep(backendFresh)
		step("rotated", "10.0.0.2", "true false")
		step("rotated", "10.0.0.1", "true false")
		answer, failure = nil, errServer
		time.Sleep(backendKept)
		step("DNS is down", "10.0.0.1", "true false")
		asked := len(n.asked)
		step("DNS is down, and is left alone", "10.0.0.2", "true false")
		if len(n.asked) != asked {
			t.Error("every dial asks a DNS server that is down")
		}
		time.Sleep(backendFresh)
		answer, failure = []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil
		step("back, and the old one is gone", "10.0.0.1", "false false")
		step("back", "10.0.0.2", "true false")
	})
}

// A DNS server that hangs holds up the one dial that asks.
func TestOwnServersWhileDNSHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := false
		n := &names{of: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			if hang {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}}
		b := &backend{hostPort: hostPort{"vault", 8200}, seen: map[netip.Addr]time.Time{}}
		ask := func() time.Duration {
			begun := time.Now()
			if there, err := b.answersAt(t.Context(), n, netip.MustParseAddr("10.0.0.1")); !there || err != nil {
				t.Errorf("what is known is forgotten: %t, %v", there, err)
			}
			return time.Since(begun)
		}
		ask()
		time.Sleep(backendFresh)
		hang = true
		var first time.Duration
		done := make(chan struct{})
		go func() { defer close(done); first = ask() }()
		synctest.Wait()
		if took := ask(); took != 0 {
			t.Errorf("the second dial waits %s", took)
		}
		if <-done; first != lookupTimeout {
			t.Errorf("the first dial waits %s", first)
		}
	})
}

// What is asked of which resolver, and how its failures look.
func TestLookup(t *testing.T) {
	t.Parallel()
	failure := error(errNotFound)
	n := &names{of: func(context.Context, string) ([]netip.Addr, error) { return nil, failure }}
	d := newDialer(t, Config{Allow: []string{"minio.storage:9000"}, DenyHosts: []string{"vault:8200"}, Resolver: n})
	for address, want := range map[string]error{
		"nosuch.example.com:443": ErrResolve, // anybody may ask the public DNS
		"nosuch.invalid:443":     ErrResolve,
		"minio.storage:9000":     ErrResolve, // the operator names it
		"minio.storage:9001":     ErrResolve,
		"vault:8201":             ErrDenied, // whether it exists inside is no tenant's business
		"vault.default.svc:8201": ErrDenied,
		"db.corp:5432":           ErrDenied,
		"vault:8200":             ErrDenied,
		"vault.:8200":            ErrDenied,
	} {
		for _, failure = range []error{errNotFound, errServer, nil} {
			_, err := d.DialContext(t.Context(), "tcp", address)
			if !errors.Is(err, want) || errors.Is(err, ErrDenied) != (want == ErrDenied) { //nolint:errorlint // the table's own
				t.Errorf("%s: %v, want %v", address, err, want)
			}
		}
	}
	if slices.Contains(n.asked, "vault.") || !slices.Contains(n.asked, "minio.storage") {
		t.Errorf("asked for %q", n.asked)
	}
	// The system's search list is for the names that the operator wrote.
	d.rooted, n.asked = true, nil
	for _, address := range []string{"nosuch.example.com:443", "minio.storage:9000", "vault.default:8201"} {
		_, _ = d.DialContext(t.Context(), "tcp", address)
	}
	if want := []string{"nosuch.example.com.", "minio.storage", "vault.default."}; !slices.Equal(n.asked, want) {
		t.Errorf("asked for %q, want %q", n.asked, want)
	}
	if def := newDialer(t, Config{}); !def.rooted {
		t.Error("the system's resolver is asked for relative names")
	}
}

func TestLookupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{of: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
		}}
		d := newDialer(t, Config{Resolver: n})
		begun := time.Now()
		_, err := d.DialContext(t.Context(), "tcp", "slow.example.com:25")
		var network net.Error
		if took := time.Since(begun); took != lookupTimeout || !errors.Is(err, ErrResolve) || !errors.As(err, &network) || !network.Timeout() {
			t.Errorf("%v after %s", err, took)
		}
		if _, err := d.DialContext(t.Context(), "tcp", "slow.corp:25"); !errors.Is(err, ErrDenied) {
			t.Errorf("an internal name: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		_, err = d.DialContext(ctx, "tcp", "slow.example.com:25")
		if took := time.Since(begun); took != time.Second || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDenied) {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// A resolver's answer that is no plain address condemns the name.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string][]netip.Addr{
		"nothing in it": {{}}, "a zone": {netip.MustParseAddr("fe80::1%eth0")}, "a zone on a public one": {netip.MustParseAddr("2606:4700::1%eth0")},
		"beside a good one": {netip.MustParseAddr("8.8.8.8"), {}},
	} {
		d := newDialer(t, Config{AnyLoopback: true, Allow: []string{"::/0"}, Resolver: &names{
			of: func(context.Context, string) ([]netip.Addr, error) { return answer, nil },
		}})
		if _, err := d.DialContext(t.Context(), "tcp", "x.example.com:25"); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNeverDialled(t *testing.T) {
	t.Parallel()
	d := newDialer(t, Config{AnyLoopback: true, Allow: []string{"0.0.0.0/0", "::/0"}})
	for _, network := range []string{"", "unix", "unixgram", "udp", "udp4", "ip4:icmp", "tcp5", "TCP"} {
		if _, err := d.DialContext(t.Context(), network, "127.0.0.1:25"); !errors.Is(err, ErrDenied) {
			t.Errorf("network %q: %v", network, err)
		}
	}
	for _, address := range []string{
		"", ":25", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:smtp", "127.0.0.1:+25", "127.0.0.1:-1", "127.0.0.1:0x19",
		"127.0.0.1: 25", "127.0.0.1:２５", "::1:25", "[::1]", "/var/run/docker.sock", "@abstract", "a:b:25",
	} {
		if _, err := d.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrDenied) {
			t.Errorf("address %q: %v", address, err)
		}
	}
}

// No error tells a tenant what a name resolves to, or where the resolver is.
func TestErrorsNameNoAddress(t *testing.T) {
	t.Parallel()
	dns := egresstest.StartDNS(t)
	dns.Set("inside.example.com", []netip.Addr{loopbacks[0]})
	dns.Set("private.example.com", []netip.Addr{netip.MustParseAddr("10.255.255.1")})
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(shut.Addr().String()).Port()
	_ = shut.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	d := newDialer(t, Config{AllowLoopback: []uint16{port, free}, Resolver: dns.Resolver()})
	clean := func(what string, err error, is error) {
		t.Helper()
		if err == nil || !errors.Is(err, is) {
			t.Errorf("%s: %v, want %v", what, err, is)
			return
		}
		for _, leak := range []string{"127.0.0.1", "10.255.255.1", ":53", "169.254", "10.96.0.10"} {
			for wrapped := range chain(err) {
				if strings.Contains(wrapped.Error(), leak) || strings.Contains(fault.Message(wrapped), leak) {
					t.Errorf("%s: %T says %q", what, wrapped, wrapped)
				}
			}
		}
	}
	_, err = d.DialContext(t.Context(), "tcp", at("inside.example.com", free))
	clean("refused", err, syscall.ECONNREFUSED)
	if !strings.Contains(err.Error(), at("inside.example.com", free)) {
		t.Errorf("%v does not name what was typed", err)
	}
	_, err = d.DialContext(t.Context(), "tcp", "private.example.com:25")
	clean("denied", err, ErrDenied)
	clean("denied", err, fault.PermissionDenied)
	if got := Detail(fmt.Errorf("wrapped: %w", err)); !strings.Contains(got, "private.example.com is at 10.255.255.1:25") {
		t.Errorf("the operator reads %q", got)
	}
	_, err = d.DialContext(t.Context(), "tcp", "nosuch.example.com:25")
	clean("no such name", err, ErrResolve)
	clean("no such name", err, fault.Unavailable)
	if Detail(err) == "" || Detail(io.EOF) != "" {
		t.Error("no detail for the operator, or one of nothing")
	}
	clean("malformed", d.CheckHost("127.1"), fault.InvalidArgument)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.DialContext(cancelled, "tcp", at("localhost", port))
	clean("cancelled", err, context.Canceled)

	c, err := d.DialContext(t.Context(), "tcp", at("inside.example.com", port))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	clean("reset", err, syscall.ECONNRESET)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err = c.Write([]byte("x")); err != nil || time.Now().After(deadline) {
			break
		}
	}
	clean("written to a reset one", err, syscall.EPIPE)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_, err = c.Read(make([]byte, 1))
	clean("closed", err, net.ErrClosed)
	clean("closed twice", c.Close(), net.ErrClosed)
	clean("a deadline on a closed one", errors.Join(c.SetDeadline(time.Now()), c.SetReadDeadline(time.Now()), c.SetWriteDeadline(time.Now())), net.ErrClosed)
}

// chain yields an error and all that it wraps.
func chain(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		var walk func(error) bool
		walk = func(err error) bool {
			if err == nil || !yield(err) {
				return err == nil
			}
			switch w := err.(type) { //nolint:errorlint // walks by hand
			case interface{ Unwrap() error }:
				return walk(w.Unwrap())
			case interface{ Unwrap() []error }:
				for _, e := range w.Unwrap() {
					if !walk(e) {
						return false
					}
				}
			}
			return true
		}
		walk(err)
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	parse := func(texts string) (all []netip.Addr) {
		for s := range strings.FieldsSeq(texts) {
			all = append(all, netip.MustParseAddr(s))
		}
		return all
	}
	for in, want := range map[string]string{
		"2600::1 2600::2 1.1.1.1 1.1.1.2": "2600::1 1.1.1.1 2600::2 1.1.1.2",
		"1.1.1.1 2600::1 2600::2 2600::3": "1.1.1.1 2600::1 2600::2 2600::3",
		"1.1.1.1":                         "1.1.1.1",
		"1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7": "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6",
	} {
		if got := interleave(parse(in)); !slices.Equal(got, parse(want)) {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, row := range []struct {
		left time.Duration
		n    int
		want time.Duration
	}{{time.Minute, 3, connectTimeout}, {8 * time.Second, 4, 2 * time.Second}, {2 * time.Second, 4, shareMinimum}, {-time.Second, 1, shareMinimum}} {
		if got := share(row.left, row.n); got != row.want {
			t.Errorf("%s for %d: %s, want %s", row.left, row.n, got, row.want)
		}
	}
	// The first address refuses, the second answers.
	_, port := origin(t, func(http.ResponseWriter, *http.Request) {})
	d := newDialer(t, Config{AnyLoopback: true, Resolver: &names{of: func(context.Context, string) ([]netip.Addr, error) {
		return parse("127.0.0.2 127.0.0.1"), nil
	}}})
	if err := reached(t, d, "tcp", at("two.example.com", port)); err != nil {
		t.Error(err)
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	get := func(c *http.Client, url string) (string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(request)
		if err != nil {
			return "", err
		}
		defer func() { _ = answer.Body.Close() }()
		b, err := io.ReadAll(answer.Body)
		return string(b), err
	}
	d := newDialer(t, Config{AnyLoopback: true})
	secure := func(max uint16, h2 bool) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
		s.TLS = &tls.Config{MaxVersion: max}
		s.EnableHTTP2 = h2
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // refusals are expected
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	trusting := func(s *httptest.Server) *http.Client {
		tr := d.Transport()
		tr.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		return &http.Client{Transport: tr}
	}
	s := secure(0, true)
	if got, err := get(trusting(s), s.URL); err != nil || got != "HTTP/1.1" {
		t.Errorf("a server of HTTP/2 was asked by %s, %v", got, err)
	}
	if _, err := get(d.Client(time.Minute), s.URL); err == nil {
		t.Error("an unknown certificate is accepted")
	}
	s = secure(tls.VersionTLS11, false)
	if _, err := get(trusting(s), s.URL); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	big, _ := origin(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Big", strings.Repeat("x", 100<<10)) })
	if _, err := get(d.Client(time.Minute), big.URL); err == nil {
		t.Error("100 KiB of headers are read")
	}
	packed, _ := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
	})
	if got, err := get(d.Client(time.Minute), packed.URL); err != nil || len(got) > 1<<12 {
		t.Errorf("%d bytes came of a packed body, %v", len(got), err)
	}
	hang, _ := origin(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := get(d.Client(50*time.Millisecond), hang.URL); err == nil {
		t.Error("the timeout is none")
	}
	if first, second := d.Transport(), d.Transport(); first == second {
		t.Error("callers share a transport, and so each other's settings")
	}
}

func TestWaitFloor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for took, want := range map[time.Duration]time.Duration{
			0: Floor, 10 * time.Millisecond: Floor, Floor - 1: Floor, Floor: 2 * Floor, Floor + 300*time.Millisecond: 2 * Floor,
		} {
			begun := time.Now()
			time.Sleep(took)
			WaitFloor(t.Context(), begun)
			if got := time.Since(begun); got != want {
				t.Errorf("after %s it ends at %s, want %s", took, got, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		if WaitFloor(ctx, begun); time.Since(begun) != 0 {
			t.Error("it outlives its context")
		}
	})
}

// A saved host and a dialled one are judged alike, whatever was typed.
func FuzzCheckHostAndDialAgree(f *testing.F) {
	for _, form := range egresstest.Forms(25, netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("fd00::2")) {
		f.Add(form.Host, form.Port)
	}
	for _, host := range []string{"8.8.8.8", "mail.corp.example", "vault", "bücher.example", "2606:4700::1111", "64:ff9b::808:808", "10.20.0.1", "[::1]"} {
		f.Add(host, uint16(587))
	}
	f.Fuzz(func(t *testing.T, host string, port uint16) {
		gone, cancel := context.WithCancel(t.Context())
		cancel() // no packet is sent
		for _, c := range []Config{
			{},
			{Allow: []string{"10.20.0.0/16:587", "[fd00::/8]:25", "mail.corp.example:587"}, AllowLoopback: []uint16{25}, DenyHosts: []string{"vault:8200", "10.20.0.1:587", "db"}},
			{Allow: []string{"0.0.0.0/0", "::/0"}, AnyLoopback: true, Deny: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:25"), netip.MustParseAddrPort("8.8.8.8:0")}},
		} {
			n := &names{of: func(context.Context, string) ([]netip.Addr, error) { return nil, errServer }}
			c.Resolver = n
			d := newDialer(t, c)
			checked := d.CheckHost(host)
			dial := func(port uint16) error {
				_, err := d.DialContext(gone, "tcp", at(host, port))
				if err == nil {
					t.Fatalf("%q was dialled", host)
				}
				return err
			}
			if checked != nil {
				if !errors.Is(checked, ErrDenied) {
					t.Errorf("CheckHost(%q): %v", host, checked)
				}
				for _, p := range append(d.policy.ports(), port) {
					if err := dial(p); !errors.Is(err, ErrDenied) || len(n.asked) > 0 {
						t.Errorf("CheckHost refuses %q, the dialler at %d says %v and asked for %q", host, p, err, n.asked)
					}
				}
				continue
			}
			if !slices.ContainsFunc(append(d.policy.ports(), port), func(p uint16) bool { return p != 0 && !errors.Is(dial(p), ErrDenied) }) {
				t.Errorf("CheckHost accepts %q, which no port can reach", host)
			}
			// What a C resolver takes for an address was read as that address.
			read, err := parseHost(host)
			if err != nil {
				t.Fatal(err)
			}
			if a, ok := inetAton(read.name); ok {
				t.Errorf("%q is the name %q, which C reads as %s", host, read.name, a)
			}
			if a, ok := inetAton(host); ok && a != read.addr {
				t.Errorf("%q is read as %v, by C as %s", host, read, a)
			}
			// Another opinion on literals, under the policy that opens nothing.
			if ip := net.IP(read.addr.AsSlice()); len(c.Allow) == 0 && read.name == "" && (!ip.IsGlobalUnicast() || ip.IsPrivate()) {
				t.Errorf("%q is accepted, and is %s", host, ip)
			}
		}
	})
}

// inetAton reads as the C function does: one to four numbers in base 8, 10 or 16,
// of which the last fills what is left.
func inetAton(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if s == "" || len(parts) > 4 {
		return netip.Addr{}, false
	}
	var n uint64
	for i, p := range parts {
		base := 10
		switch {
		case strings.HasPrefix(strings.ToLower(p), "0x"):
			p, base = p[2:], 16
		case len(p) > 1 && p[0] == '0':
			base = 8
		}
		v, err := strconv.ParseUint(p, base, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if v >= 1<<bits {
			return netip.Addr{}, false
		}
		n = n<<bits | v
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), true
}
