package vault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

// These are what a real Vault can't be made to do: hang, answer nonsense, redirect.

type hang struct {
	addr    string
	reached chan struct{}
}

// newHang answers logins and lets every other request hang.
func newHang(t *testing.T) hang {
	t.Helper()
	h := hang{reached: make(chan struct{}, 100)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/lookup-self") {
			fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
			return
		}
		h.reached <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	h.addr = srv.URL
	return h
}

func TestOwnTimeout(t *testing.T) {
	t.Parallel()
	h := newHang(t)
	c := openClient(t, &server{addr: h.addr}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")},
		func(o *vault.Options) { o.Timeout = 100 * time.Millisecond })
	ready(t, c)
	if _, err := c.Read(t.Context(), someRef("acme")); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("Vault hangs, the caller has time: %v", err)
	}
}

// A sidecar starts whether Vault answers or not: the first login is asked for in
// the background, and answered here only once Open has returned.
func TestOpenWaitsForNoLogin(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-opened:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
	}))
	t.Cleanup(srv.Close)
	c := openClient(t, &server{addr: srv.URL}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")},
		func(o *vault.Options) { o.Timeout = 30 * time.Second })
	close(opened)
	ready(t, c)
	if c.LoginFailures() != 0 {
		t.Fatal("Open waited for a login until it had timed out")
	}
}

func TestAnswersThatAreNotVaults(t *testing.T) {
	t.Parallel()
	const leak = "canary-in-a-body"
	rows := []struct {
		name   string
		status int
		body   string
	}{
		{"internal error", 500, `{"errors": ["` + leak + `"]}`},
		{"bad gateway", 502, "<html>" + leak},
		{"rate limit", 429, `{"errors": ["` + leak + `"]}`},
		{"sealed", 503, `{"errors": ["Vault is sealed"]}`},
		{"html", 200, "<html>" + leak},
		{"empty", 200, ""},
		{"no data", 200, `{"data": null}`},
		{"data of another shape", 200, `{"data": {"data": {"values": "` + leak + `"}, "metadata": {"version": 1}}}`},
		{"no bundle", 200, `{"data": {"data": {"password": "` + leak + `"}, "metadata": {"version": 1}}}`},
		{"deleted without metadata", 404, `{"data": {"data": null}}`},
		{"unclear 404", 404, "not here " + leak},
		{"400", 400, `{"errors": ["` + leak + `"]}`},
		{"too large", 200, strings.Repeat(leak, 8<<20/len(leak)+1)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/lookup-self") {
					fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
					return
				}
				w.WriteHeader(row.status)
				fmt.Fprint(w, row.body)
			}))
			t.Cleanup(srv.Close)
			c := openClient(t, &server{addr: srv.URL}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")})
			ready(t, c)
			ref := someRef("acme")
			_, err := c.Read(t.Context(), ref)
			if fault.CodeOf(err) != fault.Unavailable {
				t.Fatalf("got %v", err)
			}
			for _, s := range []string{leak, ref.Pin.String(), "acme"} {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), s) {
					t.Errorf("%q shows in %v", s, err)
				}
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var foreign atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { foreign.Add(1) }))
	t.Cleanup(elsewhere.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/lookup-self"):
			fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
		case strings.Contains(r.URL.Path, "/acme/"):
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		case r.URL.RawQuery == "":
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
		case r.Header.Get("X-Vault-Token") == "x":
			fmt.Fprint(w, `{"data": {"data": {"values": {"password": "hunter2"}}, "metadata": {"version": 1}}}`)
		}
	}))
	t.Cleanup(srv.Close)
	c := openClient(t, &server{addr: srv.URL}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")})
	ready(t, c)
	fails(t, c, someRef("acme"))
	if foreign.Load() != 0 {
		t.Fatal("the token went to another host")
	}
	if _, err := c.Read(t.Context(), someRef("acme")); !strings.Contains(fault.Message(err), "redirects to another host") {
		t.Errorf("a redirect elsewhere says %v", err)
	}
	readable(t, c, someRef("globex"))
}

// TestEnvironmentIsIgnored: a VAULT_* or proxy variable of the pod must change
// nothing, a malformed one included.
func TestEnvironmentIsIgnored(t *testing.T) {
	for k, v := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "from-env", "VAULT_NAMESPACE": "from-env", "VAULT_SKIP_VERIFY": "banana",
		"VAULT_HEADERS": "banana", "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(k, v)
	}
	var bad atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "x" || r.Header.Get("X-Vault-Namespace") != "" {
			bad.Add(1)
		}
		fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
	}))
	t.Cleanup(srv.Close)
	c := openClient(t, &server{addr: srv.URL}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")})
	ready(t, c)
	if bad.Load() != 0 {
		t.Fatal("the environment reached a request")
	}
}

// TestCredentialsStayInside: a server that echoes what it got, as proxies and
// debug builds do, must not bring a credential into log, status or error.
func TestCredentialsStayInside(t *testing.T) {
	t.Parallel()
	const canary = "canary-credential-77"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(object{"errors": []string{string(body), r.Header.Get("X-Vault-Token"), r.URL.Path}})
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	f := file(t, dir, "credential", canary)
	for method, a := range map[string]vault.Auth{
		"approle":    {Method: vault.AuthAppRole, RoleIDFile: f, SecretIDFile: f},
		"jwt":        {Method: vault.AuthJWT, JWTFile: f},
		"kubernetes": {Method: vault.AuthKubernetes, Role: "r", JWTFile: f},
		"token":      {Method: vault.AuthToken, TokenFile: f},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var logs bytes.Buffer // read once Close has ended the only writer
			c, err := vault.Open(t.Context(), vault.Options{
				Address: srv.URL, Auth: a, BackoffMin: time.Millisecond,
				Log: slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			must(t, err)
			eventually(t, "the login fails", func() bool { return c.Status().LastError != "" })
			ready, status := c.Ready(t.Context()), c.Status()
			_, read := c.Read(t.Context(), someRef("acme"))
			must(t, c.Close())
			all := fmt.Sprintf("%v %+v %+v %s", ready, status, read, logs.String())
			if strings.Contains(all, canary) || logs.Len() == 0 {
				t.Fatalf("logged and told: %s", all)
			}
		})
	}
}
