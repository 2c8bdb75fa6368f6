package e2e

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// vaultGate stands before the real Vault: it counts, and lets a test act at an
// exact moment between two requests.
type vaultGate struct {
	url           string
	reads, writes atomic.Int64 // of secrets, that passed
	before, after atomic.Pointer[func(*http.Request) (refusal int)]
}

func newVaultGate(t testing.TB, f *fleet) *vaultGate {
	t.Helper()
	target, err := url.Parse(f.vault.Addr)
	if err != nil {
		t.Fatal(err)
	}
	g := &vaultGate{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if do := g.before.Load(); do != nil {
			if status := (*do)(r); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		if isSecret(r) {
			if r.Method == http.MethodGet {
				g.reads.Add(1)
			} else {
				g.writes.Add(1)
			}
		}
		proxy.ServeHTTP(w, r)
		if do := g.after.Load(); do != nil {
			(*do)(r)
		}
	}))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// isSecret tells a secret's path from logins and look-ups.
func isSecret(r *http.Request) bool { return strings.Contains(r.URL.Path, "/data/") }

// refuse answers reads of secrets with a status from now on; 0 ends that.
func (g *vaultGate) refuse(status int) {
	do := func(r *http.Request) int {
		if isSecret(r) && r.Method == http.MethodGet {
			return status
		}
		return 0
	}
	g.before.Store(&do)
}

// env points a process at the gate.
func (g *vaultGate) env() string { return "PATCHBAY_VAULT_ADDRESS=" + g.url }

// dialled is a loopback address in front of a server; do runs when somebody
// connects to it, before the first byte passes.
func dialled(t testing.TB, to string, do func()) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // ends the loop
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			do()
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close() // the server is away: so is its gate
				continue
			}
			pass := func(a, b net.Conn) { _, _ = io.Copy(a, b); _ = a.Close() } // whichever ends first
			go pass(client, server)
			go pass(server, client)
		}
	}()
	return ln.Addr().String()
}
