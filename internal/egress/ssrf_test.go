package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
)

func newDialer(t *testing.T, c Config) *Dialer {
	t.Helper()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// reached dials and closes.
func reached(t *testing.T, d *Dialer, network, address string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return reachedBy(ctx, d, network, address)
}

func reachedBy(ctx context.Context, d *Dialer, network, address string) error {
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// looked dials what may be nobody's address, and gives up half a second after its
// name was looked up.
func looked(t *testing.T, d *Dialer, dns *egresstest.DNS, name, address string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := dns.Asked(name)
	go func() {
		for ctx.Err() == nil && dns.Asked(name) == before {
			time.Sleep(time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
			cancel()
		}
	}()
	return reachedBy(ctx, d, "tcp", address)
}

// origin is a server on loopback that answers with what handle writes, and its
// port.
func origin(t *testing.T, handle http.HandlerFunc) (*httptest.Server, uint16) {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	a, err := netip.ParseAddrPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return s, a.Port()
}

// Every form, by everything that dials. A dialler that allows one loopback port
// and a private range is no more open than one that allows nothing.
func TestNoFormReachesTheInside(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	dns := egresstest.StartDNS(t)
	for name, c := range map[string]Config{
		"closed":             {Resolver: dns.Resolver()},
		"another port is":    {Resolver: dns.Resolver(), AllowLoopback: []uint16{p.Port ^ 1}},
		"the system's names": {},
		"another range is":   {Resolver: dns.Resolver(), Allow: []string{"10.20.0.0/16:587", "mail.corp.example"}},
	} {
		d := newDialer(t, c)
		follow := &http.Client{Transport: d.Transport()}
		for _, f := range p.Forms() {
			t.Run(name+"/"+f.Name, func(t *testing.T) {
				if err := d.CheckHost(f.Host); !errors.Is(err, ErrDenied) && c.AllowLoopback == nil {
					t.Errorf("CheckHost(%q) = %v", f.Host, err)
				}
				for _, network := range []string{"tcp", "tcp4", "tcp6"} {
					if err := reached(t, d, network, f.Address()); !errors.Is(err, ErrDenied) {
						t.Errorf("dial %s %q: %v", network, f.Address(), err)
					}
				}
				// Without brackets, as a URL's author may write it.
				if err := reached(t, d, "tcp", f.Host+":"+strconv.Itoa(int(f.Port))); !errors.Is(err, ErrDenied) {
					t.Errorf("dial %q unbracketed: %v", f.Host, err)
				}
				for _, client := range []*http.Client{follow, d.Client(10 * time.Second)} {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL("http"), nil)
					if err != nil {
						continue // no URL
					}
					answer, err := client.Do(request)
					if err == nil {
						_ = answer.Body.Close()
						t.Errorf("GET %s answered", f.URL("http"))
					}
				}
			})
		}
	}
	p.Check(t)
}

func TestNoRedirectLeadsInside(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	var hops atomic.Int32
	s, port := origin(t, func(w http.ResponseWriter, r *http.Request) {
		hops.Add(1)
		status, err := strconv.Atoi(r.URL.Query().Get("status"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(status)
	})
	d := newDialer(t, Config{AllowLoopback: []uint16{port}})
	follow := &http.Client{Transport: d.Transport()}
	for _, f := range p.Forms() {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprintf("%s/%d", f.Name, status), func(t *testing.T) {
				at := s.URL + "/?status=" + strconv.Itoa(status) + "&to=" + url.QueryEscape(f.URL("http"))
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := follow.Do(request)
				if err == nil {
					_ = answer.Body.Close()
					t.Error("followed")
				}
				answer, err = d.Client(time.Minute).Do(request)
				if _, noURL := url.Parse(f.URL("http")); err != nil && noURL == nil {
					t.Error(err)
				} else if err == nil {
					_ = answer.Body.Close()
					if answer.StatusCode != status {
						t.Errorf("our own client answers %d instead of the redirect", answer.StatusCode)
					}
				}
			})
		}
	}
	p.Check(t)
	if want := len(p.Forms()) * 5 * 2; int(hops.Load()) < want {
		t.Errorf("the redirecting server was asked %d times, want %d", hops.Load(), want)
	}
}

// A name that means another address with each look-up never leads to a forbidden
// one: what is dialled is what was judged, and each dial judges anew.
func TestRebinding(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	dns := egresstest.StartDNS(t)
	inside := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	metadata := netip.MustParseAddr("169.254.169.254")
	allowed := netip.MustParseAddr("192.0.2.1") // nobody's: the operator allows it here
	d := newDialer(t, Config{Allow: []string{"192.0.2.1"}, Resolver: dns.Resolver()})
	for i, second := range []netip.Addr{inside, netip.IPv6Loopback(), metadata, netip.MustParseAddr("10.255.255.1")} {
		name := fmt.Sprintf("rebinds%d.example.com", i)
		dns.Set(name, []netip.Addr{allowed}, []netip.Addr{second})
		address := net.JoinHostPort(name, strconv.Itoa(int(p.Port)))
		if err := looked(t, d, dns, name, address); err == nil || errors.Is(err, ErrDenied) {
			t.Errorf("%s, first: %v", name, err)
		}
		if n := dns.Asked(name); n != 1 {
			t.Errorf("%s was looked up %d times by one dial", name, n)
		}
		if err := reached(t, d, "tcp", address); !errors.Is(err, ErrDenied) {
			t.Errorf("%s, then %s: %v", name, second, err)
		}
	}
	p.Check(t)
}

// A client that keeps connections, or makes new ones, judges each.
func TestRebindingUnderHTTP(t *testing.T) {
	t.Parallel()
	dns := egresstest.StartDNS(t)
	_, port := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "outside")
	})
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	dns.Set("rebinds.example.com", []netip.Addr{loopback}, []netip.Addr{netip.MustParseAddr("169.254.169.254")})
	d := newDialer(t, Config{AllowLoopback: []uint16{port}, Resolver: dns.Resolver()})
	client := d.Client(10 * time.Second)
	for i := range 3 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://rebinds.example.com:%d/", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err == nil {
			_ = answer.Body.Close()
		}
		if (i == 0) != (err == nil) || i > 0 && !errors.Is(err, ErrDenied) {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

func TestMixedAnswers(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	dns := egresstest.StartDNS(t)
	open := netip.MustParseAddr("192.0.2.1")
	private := netip.MustParseAddr("10.255.255.1")
	if len(p.Private) > 0 {
		private = p.Private[0]
	}
	d := newDialer(t, Config{Allow: []string{"192.0.2.1"}, Resolver: dns.Resolver()})
	for name, row := range map[string]struct {
		answer []netip.Addr
		denied bool
	}{
		"loopback-last.example.com":  {[]netip.Addr{open, netip.AddrFrom4([4]byte{127, 0, 0, 1})}, true},
		"loopback-first.example.com": {[]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), open}, true},
		"loopback-v6.example.com":    {[]netip.Addr{open, netip.IPv6Loopback()}, true},
		"mapped.example.com":         {[]netip.Addr{open, netip.MustParseAddr("::ffff:127.0.0.1")}, true},
		"metadata.example.com":       {[]netip.Addr{open, netip.MustParseAddr("169.254.169.254")}, true},
		"all-private.example.com":    {[]netip.Addr{private, netip.MustParseAddr("fd00:1::1")}, true},
		// A dual-stack host with an address of its site: the other one will do.
		"site.example.com": {[]netip.Addr{private, open, netip.MustParseAddr("fd00:1::1")}, private == open},
	} {
		dns.Set(name, row.answer)
		address := net.JoinHostPort(name, strconv.Itoa(int(p.Port)))
		var err error
		if row.denied {
			err = reached(t, d, "tcp", address)
		} else {
			err = looked(t, d, dns, name, address)
		}
		if err == nil || errors.Is(err, ErrDenied) != row.denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Check(t)
}

// The last look is at the socket: what got past every decision is refused there.
func TestTheSocketIsJudgedToo(t *testing.T) {
	t.Parallel()
	p := egresstest.Plant(t)
	d := newDialer(t, Config{})
	for _, a := range append([]netip.Addr{loopbacks[0]}, p.Private...) {
		_, err := d.connectTo(t.Context(), netip.AddrPortFrom(a, p.Port), time.Second, false)
		if !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", a, err)
		}
	}
	p.Check(t)
}

// A proxy would dial whatever it is asked for.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	p := egresstest.Plant(t)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, fmt.Sprintf("http://127.0.0.1:%d", p.Port))
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	dns := egresstest.StartDNS(t)
	_, port := origin(t, func(http.ResponseWriter, *http.Request) {})
	dns.Set("api.example.com", []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})})
	d := newDialer(t, Config{AnyLoopback: true, Resolver: dns.Resolver()})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://api.example.com:%d/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := d.Client(10 * time.Second).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	p.Check(t)
}
