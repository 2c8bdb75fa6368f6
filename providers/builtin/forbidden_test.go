package builtin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
)

// protocol is one way in which a tenant's config makes us connect.
type protocol struct {
	name  string
	kind  providers.Kind
	level int
	input func(f egresstest.Form) providers.Input
}

func protocols() []protocol {
	secrets := func(pairs ...string) providers.Secrets {
		out := providers.Secrets{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = providers.NewSecret(pairs[i+1])
		}
		return out
	}
	mail := func(tls string) func(egresstest.Form) providers.Input {
		return func(f egresstest.Form) providers.Input {
			return providers.Input{
				Params:  map[string]any{"host": f.Host, "port": int64(f.Port), "tls": tls, "username": "u", "from": "a@acme.example"},
				Secrets: secrets("password", "canary-password"),
			}
		}
	}
	store := func(scheme string, pathStyle bool) func(egresstest.Form) providers.Input {
		return func(f egresstest.Form) providers.Input {
			return providers.Input{
				Params:  map[string]any{"bucket": "acme-prod", "region": "us-east-1", "endpoint": origin(scheme, f), "path_style": pathStyle},
				Secrets: secrets("access_key_id", "AKIACANARY", "secret_access_key", "canary-secret"),
			}
		}
	}
	api := func(scheme string) func(egresstest.Form) providers.Input {
		return func(f egresstest.Form) providers.Input {
			return providers.Input{
				Params:  map[string]any{"base_url": origin(scheme, f), "auth": "bearer", "test_path": "/me"},
				Secrets: secrets("token", "canary-token"),
			}
		}
	}
	hook := func(f egresstest.Form) providers.Input {
		return providers.Input{Params: map[string]any{"url": f.URL("https")}, Secrets: secrets("signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}
	}
	return []protocol{
		{"SMTP with STARTTLS", "smtp", 1, mail("starttls")},
		{"SMTP over TLS", "smtp", 1, mail("implicit")},
		{"SMTP in clear, to the message", "smtp", 3, mail("none")},
		{"S3 over https", "s3", 3, store("https", true)},
		{"S3 over http, the bucket in the host", "s3", 1, store("http", false)},
		{"an API over http", "http_api", 1, api("http")},
		{"an API over https", "http_api", 1, api("https")},
		{"a webhook that is only reached", "webhook", 1, hook},
		{"a webhook that gets an event", "webhook", 3, hook},
	}
}

// origin is the form's URL without a path.
func origin(scheme string, f egresstest.Form) string { return scheme + "://" + f.Address() }

// bound are the kinds behind a policy with these loopback ports, names of dns and
// endpoints of the operator's.
func bound(t *testing.T, dns *egresstest.DNS, endpoints map[string]string, ports ...uint16) *providers.Registry {
	t.Helper()
	d, err := egress.New(egress.Config{AllowLoopback: ports, Resolver: dns.Resolver()})
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	return kinds.Bind(providers.Runtime{DialContext: d.DialContext, Transport: d.Transport(), Endpoints: endpoints, HostName: "sidecar.acme.example"})
}

// names are forms too: honest names that lead inside, alone or beside a public
// address, at once or from the second look-up on.
func names(dns *egresstest.DNS, inside *egresstest.Planted) (forms []egresstest.Form) {
	public := netip.MustParseAddr("192.0.2.77") // nobody's, and not allowed either: nothing is dialled
	for i, a := range append([]netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("169.254.169.254"),
		netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("64:ff9b::7f00:1"),
	}, inside.Private...) {
		for how, answers := range map[string][][]netip.Addr{
			"alone": {{a}}, "beside": {{public, a}}, "later": {{public}, {a}},
		} {
			host := fmt.Sprintf("%s%d.example.com", how, i)
			dns.Set(host, answers...)
			// S3's other style puts the bucket before the endpoint.
			dns.Set("acme-prod."+host, answers...)
			forms = append(forms, egresstest.Form{Name: fmt.Sprintf("a name, %s, %s", how, a), Host: host, Port: inside.Port})
		}
	}
	return forms
}

// Whatever a tenant writes, in whatever protocol: nobody inside is reached, and
// the report tells nothing of what is there, not by its time either.
func TestNoFormOfAnAddressReachesTheInside(t *testing.T) {
	t.Parallel()
	inside, dns := egresstest.Plant(t), egresstest.StartDNS(t)
	forms := append(inside.Forms(), names(dns, inside)...)
	kinds := bound(t, dns, nil)
	var refused, tested atomic.Int64
	for _, proto := range protocols() {
		p, ok := kinds.Lookup(string(proto.kind))
		if !ok {
			t.Fatal(proto.kind)
		}
		var wg sync.WaitGroup
		for _, form := range forms {
			wg.Go(func() {
				c, err := p.Schema().Decode(proto.input(form), providers.DecodeOptions{})
				if err != nil {
					refused.Add(1)
					return
				}
				tested.Add(1)
				begun := time.Now()
				r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: proto.level})
				if err != nil {
					t.Errorf("%s, %s: %v", proto.name, form.Name, err)
					return
				}
				switch code := r.Code(); {
				case r.OK:
					t.Errorf("%s, %s: passed", proto.name, form.Name)
				case code != providers.CodeEgressDenied && code != providers.CodeHostNotFound:
					t.Errorf("%s, %s: %s tells what is there", proto.name, form.Name, code)
				case code == providers.CodeEgressDenied && time.Since(begun) < egress.Floor:
					t.Errorf("%s, %s: refused after %s", proto.name, form.Name, time.Since(begun))
				}
			})
		}
		wg.Wait()
		t.Logf("%s: %d were tested so far, %d refused by the schema", proto.name, tested.Load(), refused.Load())
	}
	inside.Check(t)
	if n := dns.Asked("alone0.example.com") + dns.Asked("acme-prod.alone0.example.com"); n < len(protocols()) {
		t.Errorf("a name was looked up %d times: not every protocol came to it", n)
	}
	if tested.Load() < 100 || refused.Load() < 100 {
		t.Errorf("%d were tested, %d refused by a schema: the forms or the kinds have changed", tested.Load(), refused.Load())
	}
}

// A server that may be reached and sends us on to one that may not. Which form,
// and by which status, is in what the kind sends: its path or its credential.
func TestNoRedirectReachesTheInside(t *testing.T) {
	t.Parallel()
	inside, dns := egresstest.Plant(t), egresstest.StartDNS(t)
	forms := append(inside.Forms(), names(dns, inside)...)
	marker := regexp.MustCompile(`to-([0-9]+)-by-(30[0-9])`)
	var redirected atomic.Int64
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found := marker.FindStringSubmatch(r.URL.Path + " " + r.Header.Get("Authorization"))
		if found == nil {
			t.Errorf("%s %s is marked by nothing", r.Method, r.URL.Path)
			return
		}
		i, _ := strconv.Atoi(found[1])
		status, _ := strconv.Atoi(found[2])
		redirected.Add(1)
		w.Header().Set("Location", forms[i].URL("http"))
		w.WriteHeader(status)
	}))
	t.Cleanup(outside.Close)
	u, err := url.Parse(outside.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	kinds := bound(t, dns, map[string]string{"sendgrid": outside.URL}, uint16(port))
	rows := []struct {
		kind  providers.Kind
		level int
		input func(mark string) providers.Input
	}{
		{"http_api", 1, func(mark string) providers.Input {
			return providers.Input{
				Params:  map[string]any{"base_url": outside.URL, "auth": "bearer"},
				Secrets: providers.Secrets{"token": providers.NewSecret(mark)},
			}
		}},
		{"webhook", 3, func(mark string) providers.Input {
			return providers.Input{
				Params:  map[string]any{"url": outside.URL + "/" + mark},
				Secrets: providers.Secrets{"signing_secret": providers.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
			}
		}},
		{"s3", 3, func(mark string) providers.Input {
			return providers.Input{
				Params: map[string]any{"bucket": mark, "region": "us-east-1", "endpoint": outside.URL, "path_style": true},
				Secrets: providers.Secrets{
					"access_key_id": providers.NewSecret("AKIACANARY"), "secret_access_key": providers.NewSecret("canary-secret"),
				},
			}
		}},
		{"sendgrid", 3, func(mark string) providers.Input { // at the operator's endpoint
			return providers.Input{
				Params:  map[string]any{"from": "a@acme.example"},
				Secrets: providers.Secrets{"api_key": providers.NewSecret("SG." + mark)},
			}
		}},
	}
	for _, row := range rows {
		p, ok := kinds.Lookup(string(row.kind))
		if !ok {
			t.Fatal(row.kind)
		}
		var wg sync.WaitGroup
		for i, form := range forms {
			for _, status := range []int{301, 302, 303, 307, 308} {
				wg.Go(func() {
					c, err := p.Schema().Decode(row.input(fmt.Sprintf("to-%d-by-%d", i, status)), providers.DecodeOptions{})
					if err != nil {
						t.Error(err)
						return
					}
					r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: row.level, Recipient: "b@acme.example"})
					// A Location that is no URL is no redirect, but a broken answer.
					if code := r.Code(); err != nil || code != providers.CodeRedirected && code != providers.CodeProtocolError {
						t.Errorf("%s, %d to %s: %s %v", row.kind, status, form.Name, code, err)
					}
				})
			}
		}
		wg.Wait()
	}
	inside.Check(t)
	if n, want := redirected.Load(), int64(len(rows)*len(forms)*5); n < want {
		t.Errorf("%d redirects for %d tests", n, want)
	}
}
