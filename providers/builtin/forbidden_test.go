package builtin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
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

func bound(t *testing.T, ports ...uint16) *providers.Registry {
	t.Helper()
	d, err := egress.New(egress.Config{AllowLoopback: ports})
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	return kinds.Bind(providers.Runtime{DialContext: d.DialContext, Transport: d.Transport(), HostName: "sidecar.acme.example"})
}

// Whatever a tenant writes, in whatever protocol: nobody inside is reached, and
// the report tells nothing of what is there, not by its time either.
func TestNoFormOfAnAddressReachesTheInside(t *testing.T) {
	t.Parallel()
	inside := egresstest.Plant(t)
	kinds := bound(t)
	var refused, tested atomic.Int64
	for _, proto := range protocols() {
		p, ok := kinds.Lookup(string(proto.kind))
		if !ok {
			t.Fatal(proto.kind)
		}
		var wg sync.WaitGroup
		for _, form := range inside.Forms() {
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
	}
	inside.Check(t)
	if tested.Load() < 100 || refused.Load() < 100 {
		t.Errorf("%d were tested, %d refused by a schema: the forms or the kinds have changed", tested.Load(), refused.Load())
	}
	t.Logf("%d were tested, %d refused by a schema", tested.Load(), refused.Load())
}

// A server that may be reached and sends us on to one that may not.
func TestNoRedirectReachesTheInside(t *testing.T) {
	t.Parallel()
	inside := egresstest.Plant(t)
	forms := inside.Forms()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := map[string]int{}
		for _, name := range []string{"form", "status"} {
			parts[name], _ = strconv.Atoi(r.Header.Get("X-" + name))
		}
		w.Header().Set("Location", forms[parts["form"]].URL("http"))
		w.WriteHeader(parts["status"])
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
	p, _ := bound(t, uint16(port)).Lookup("http_api")
	var wg sync.WaitGroup
	for i, form := range forms {
		for _, status := range []int{301, 302, 303, 307, 308} {
			wg.Go(func() {
				in := providers.Input{
					Params: map[string]any{"base_url": outside.URL, "auth": "bearer", "headers": map[string]any{
						"X-form": fmt.Sprint(i), "X-status": fmt.Sprint(status),
					}},
					Secrets: providers.Secrets{"token": providers.NewSecret("canary-token")},
				}
				c, err := p.Schema().Decode(in, providers.DecodeOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: 1})
				// A Location that is no URL is no redirect, but a broken answer.
				if code := r.Code(); err != nil || code != providers.CodeRedirected && code != providers.CodeProtocolError {
					t.Errorf("%d to %s: %s %v", status, form.Name, r.Code(), err)
				}
			})
		}
	}
	wg.Wait()
	inside.Check(t)
}
