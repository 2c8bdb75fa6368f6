package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// The guards of the local API as an operator configures them: a switch that is
// read and never handed on guards nothing.
func TestLocalGuardsAsConfigured(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	second := f.file("local-token", "first\n")
	plain := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
	opened := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar",
		"local: {allowed_hosts: [app.internal], trusted_forwarders: [127.0.0.1], token_file: "+second+"}"))
	plain.ready()
	opened.ready()
	token := f.token("acme", "acme")
	for _, c := range []struct {
		name          string
		plain, opened int
		headers       []string
	}{
		{"nothing", http.StatusOK, http.StatusUnauthorized, nil},
		{"the second token", http.StatusOK, http.StatusOK, []string{"X-Patchbay-Token: first"}},
		{"a wrong one", http.StatusOK, http.StatusUnauthorized, []string{"X-Patchbay-Token: other"}},
		{"a Host of ours", http.StatusForbidden, http.StatusOK, []string{"Host: app.internal:7411", "X-Patchbay-Token: first"}},
		{"another Host", http.StatusForbidden, http.StatusForbidden, []string{"Host: evil.example", "X-Patchbay-Token: first"}},
		{"forwarded", http.StatusForbidden, http.StatusOK, []string{"X-Forwarded-For: 192.0.2.1", "X-Patchbay-Token: first"}},
		{"a web page", http.StatusForbidden, http.StatusForbidden, []string{"Origin: http://localhost", "X-Patchbay-Token: first"}},
		{"a link", http.StatusForbidden, http.StatusForbidden, []string{"Referer: http://localhost/", "X-Patchbay-Token: first"}},
	} {
		if a := plain.get("/v1/env", token, c.headers...); a.code != c.plain {
			t.Errorf("%s, by default: %d %s, want %d", c.name, a.code, a.body, c.plain)
		}
		if a := opened.get("/v1/env", token, c.headers...); a.code != c.opened {
			t.Errorf("%s, as configured: %d %s, want %d", c.name, a.code, a.body, c.opened)
		}
	}
	// As an operator rotates it: a new file in the old one's place.
	next := filepath.Join(f.dir, "next-token")
	if err := os.WriteFile(next, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, second); err != nil {
		t.Fatal(err)
	}
	f.eventually("the new token is asked for", func() bool {
		return opened.get("/v1/env", token, "X-Patchbay-Token: second").code == http.StatusOK
	})
	if a := opened.get("/v1/env", token, "X-Patchbay-Token: first"); a.code != http.StatusUnauthorized {
		t.Errorf("the old token: %d %s", a.code, a.body)
	}
}
