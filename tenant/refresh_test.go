package tenant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func urlIssuer(url string) tenant.Issuer {
	return tenant.Issuer{Issuer: "https://id.example.com", JWKSURL: url, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
}

// TestBadKeySetKeepsTheLastGood walks what an issuer can answer wrongly.
func TestBadKeySetKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	weak := newRS256(t, "weak", 1024)
	for name, answer := range map[string]http.HandlerFunc{
		"empty body":     func(http.ResponseWriter, *http.Request) {},
		"no keys":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"no keys member": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) },
		"null":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `null`) },
		"HTML":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>maintenance</html>`) },
		"truncated":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[{"kty":"EC"`) },
		"shrunk to rubbish": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[{"kty":"EC","kid":"ec"}, 7, null]}`)
		},
		"shared secrets": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[{"kty":"oct","kid":"ec","k":"c2VjcmV0"}]}`)
		},
		"encryption keys": func(w http.ResponseWriter, _ *http.Request) {
			k := newES256(t, "ec").jwk(t)
			k["use"] = "enc"
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{k}})
		},
		"only a weak key": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks(t, weak)) },
		"500 with keys": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(jwks(t, newES256(t, "new")))
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 64<<10)
			for range 64 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"connection cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newKeyServer(t, jwks(t, ec))
			conf := urlIssuer(srv.URL)
			conf.Algorithms = []string{"ES256", "RS256"}
			v := newVerifier(t, conf)
			srv.serve(answer)
			if err := v.Refresh(t.Context()); err == nil {
				t.Fatal("the answer was accepted")
			}
			wantCode(t, v, ec.sign(t, good()), "")
			if s := v.Ready()[0]; !s.Ready || s.Keys != 1 || s.Err == nil || s.Fetched.IsZero() {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestRotationWithoutRestart(t *testing.T) {
	t.Parallel()
	old, next := newES256(t, "2025"), newES256(t, "2026")
	srv := newKeyServer(t, jwks(t, old))
	v := newVerifier(t, urlIssuer(srv.URL))
	remembered := old.sign(t, good())
	env, err := v.Verify(t.Context(), remembered)
	if err != nil {
		t.Fatal(err)
	}

	srv.answer(jwks(t, old, next)) // overlap
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, remembered, "")
	wantCode(t, v, next.sign(t, good()), "")
	if now := time.Now(); !env.Live(now) || env.Live(env.ExpiresAt()) || new(tenant.Env).Live(now) {
		t.Error("an env lives from its verification to its expiry")
	}

	srv.answer(jwks(t, next)) // withdrawn: the remembered token goes with its key
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if env.Live(time.Now()) {
		t.Error("an env outlives its key")
	}
	wantCode(t, v, remembered, fault.Unauthenticated)
	wantCode(t, v, old.sign(t, good()), fault.Unauthenticated)
	wantCode(t, v, next.sign(t, good()), "")
}

// TestSameKidNewKey: an issuer that reuses a kid for a new key revokes the old one.
func TestSameKidNewKey(t *testing.T) {
	t.Parallel()
	old, next := newES256(t, "k"), newES256(t, "k")
	srv := newKeyServer(t, jwks(t, old))
	v := newVerifier(t, urlIssuer(srv.URL))
	remembered := old.sign(t, good())
	wantCode(t, v, remembered, "")
	srv.answer(jwks(t, next))
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, remembered, fault.Unauthenticated)
	wantCode(t, v, next.sign(t, good()), "")
}

func TestUnknownKidFetchesTheNewKey(t *testing.T) {
	t.Parallel()
	old, next := newES256(t, "old"), newES256(t, "new")
	srv := newKeyServer(t, jwks(t, old))
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{urlIssuer(srv.URL)}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, v)
	eventually(t, "the first fetch", func() bool { return v.Ready()[0].Ready })
	srv.answer(jwks(t, old, next))
	token := next.sign(t, good())
	wantCode(t, v, token, fault.Unauthenticated)
	eventually(t, "the new key", func() bool { _, err := v.Verify(t.Context(), token); return err == nil })
}

func TestUnknownKidStorm(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	srv := newKeyServer(t, jwks(t, ec))
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{urlIssuer(srv.URL)}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, v)
	eventually(t, "the first fetch", func() bool { return v.Ready()[0].Ready })
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				_, err := v.Verify(t.Context(), signer{"k" + strconv.Itoa(w*100+i), ec.method, ec.key}.sign(t, good()))
				if fault.CodeOf(err) != fault.Unauthenticated {
					t.Errorf("an unknown kid gave %v", err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "the one refetch", func() bool { return srv.fetches.Load() == 2 })
	wantCode(t, v, ec.sign(t, good()), "")
	if n := srv.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want the first and one more", n)
	}
}

// wire is an issuer without a network, so that it can run in a bubble.
type wire struct {
	mu      sync.Mutex
	body    []byte
	refuse  bool // connection refused
	hang    bool // says nothing until the fetch gives up
	fetched int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.fetched++
	body, refuse, hang := w.body, w.refuse, w.hang
	w.mu.Unlock()
	switch {
	case refuse:
		return nil, errors.New("connection refused")
	case hang:
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	rec := httptest.NewRecorder()
	_, _ = rec.Write(body)
	return rec.Result(), nil
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

func (w *wire) fetches() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetched
}

// bubble runs a verifier over rt inside a synctest bubble.
func bubble(t *testing.T, rt http.RoundTripper, f func(t *testing.T, v *tenant.Verifier)) {
	synctest.Test(t, func(t *testing.T) {
		v, err := tenant.NewVerifier(tenant.VerifierOptions{
			Issuers: []tenant.Issuer{urlIssuer("https://id.example.com/jwks")}, HTTP: &http.Client{Transport: rt},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait()
		f(t, v)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// TestUnknownKidRate counts refetches on the clock: one at once, none for 30 s,
// then one for what was asked in between.
func TestUnknownKidRate(t *testing.T) {
	t.Parallel()
	ec, next := newES256(t, "ec"), newES256(t, "next")
	w := &wire{body: jwks(t, ec)}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		unknown := func(kid string) {
			wantCode(t, v, signer{kid, ec.method, ec.key}.sign(t, good()), fault.Unauthenticated)
			synctest.Wait()
		}
		want := func(n int, when string) {
			t.Helper()
			if got := w.fetches(); got != n {
				t.Fatalf("%s: %d fetches, want %d", when, got, n)
			}
		}
		want(1, "at start")
		for i := range 50 {
			unknown("x" + strconv.Itoa(i))
		}
		want(2, "after a storm")
		w.set(func(w *wire) { w.body = jwks(t, ec, next) }) // rotated right after the storm
		time.Sleep(29 * time.Second)
		unknown("next")
		want(2, "within 30 s")
		time.Sleep(time.Second)
		synctest.Wait()
		want(3, "after 30 s, for those that asked meanwhile")
		wantCode(t, v, next.sign(t, good()), "")
	})
}

// TestRotationWithoutKids: an issuer that names no keys rotates all the same. Its
// new key is fetched at the pace of unknown kids, not at that of withdrawals.
func TestRotationWithoutKids(t *testing.T) {
	t.Parallel()
	old, next := newES256(t, ""), newES256(t, "")
	w := &wire{body: jwks(t, old)}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		wantCode(t, v, old.sign(t, good()), "")
		w.set(func(w *wire) { w.body = jwks(t, old, next) })
		wantCode(t, v, next.sign(t, good()), fault.Unauthenticated)
		synctest.Wait()
		wantCode(t, v, next.sign(t, good()), "")
		for range 29 { // and a storm of forgeries is as cheap as one of kids
			wantCode(t, v, newES256(t, "").sign(t, good()), fault.Unauthenticated)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if n := w.fetches(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// TestUnknownKidWhileDown: an issuer in trouble isn't asked more often because
// of kids that nobody knows.
func TestUnknownKidWhileDown(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	w := &wire{body: jwks(t, ec)}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		w.set(func(w *wire) { w.refuse = true })
		for range 119 {
			wantCode(t, v, signer{"nobody", ec.method, ec.key}.sign(t, good()), fault.Unauthenticated)
			time.Sleep(time.Second)
		}
		if n := w.fetches(); n != 5 {
			t.Errorf("%d fetches in two minutes, want the first and one per 30 s", n)
		}
		wantCode(t, v, ec.sign(t, good()), "")
	})
}

// TestNeverFetched: the only state in which a good token gets no clear answer.
func TestNeverFetched(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	w := &wire{body: jwks(t, ec), refuse: true}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		_, err := v.Verify(t.Context(), ec.sign(t, good()))
		if fault.CodeOf(err) != fault.Unavailable || fault.RetryAfter(err) <= 0 {
			t.Fatalf("got %v, want unavailable with a time to come back", err)
		}
		if s := v.Ready()[0]; s.Ready || s.Err == nil {
			t.Errorf("status %+v", s)
		}
		time.Sleep(10 * time.Minute)
		// Back-off ends at one a minute, half of it jitter: neither a storm nor silence.
		if n := w.fetches(); n < 12 || n > 32 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		w.set(func(w *wire) { w.refuse = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		wantCode(t, v, ec.sign(t, good()), "")
	})
}

// TestHangingIssuer: nobody waits for a key server that says nothing, and the
// fetch itself ends.
func TestHangingIssuer(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	w := &wire{body: jwks(t, ec)}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		w.set(func(w *wire) { w.hang = true })
		begin := time.Now()
		wantCode(t, v, signer{"new", ec.method, ec.key}.sign(t, good()), fault.Unauthenticated)
		synctest.Wait() // the refetch hangs now
		wantCode(t, v, ec.sign(t, good()), "")
		if d := time.Since(begin); d != 0 {
			t.Errorf("a caller waited %v", d)
		}
		time.Sleep(6 * time.Second)
		if v.Ready()[0].Err == nil {
			t.Error("the fetch never ended")
		}
		wantCode(t, v, ec.sign(t, good()), "")
		w.set(func(w *wire) { w.hang = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := v.Ready()[0]; s.Err != nil {
			t.Errorf("it came back, and the status says %v", s.Err)
		}
	})
}

// TestHangingServer is the same over a real connection.
func TestHangingServer(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	srv := newKeyServer(t, jwks(t, ec))
	v := newVerifier(t, urlIssuer(srv.URL))
	release := make(chan struct{})
	srv.serve(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := v.Refresh(ctx); err == nil {
		t.Error("a server that says nothing gave keys")
	}
	close(release)
	wantCode(t, v, ec.sign(t, good()), "")
}

// TestPeriodicRefresh: a withdrawn key is noticed without anybody asking.
func TestPeriodicRefresh(t *testing.T) {
	t.Parallel()
	old, next := newES256(t, "old"), newES256(t, "next")
	w := &wire{body: jwks(t, old)}
	bubble(t, w, func(t *testing.T, v *tenant.Verifier) {
		token := old.sign(t, good())
		wantCode(t, v, token, "")
		w.set(func(w *wire) { w.body = jwks(t, next) })
		time.Sleep(3 * time.Minute)
		wantCode(t, v, token, "")
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		wantCode(t, v, token, fault.Unauthenticated)
		if n := w.fetches(); n != 2 {
			t.Errorf("%d fetches in six minutes", n)
		}
	})
}
