package arch

import (
	"go/ast"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dialling is the reviewed list of files that open connections themselves, and
// to whom. A host that a tenant typed is none of theirs: such a connection goes
// through internal/egress, which refuses the platform's own addresses (a
// metadata service, the database) on every redirect and every look-up.
var dialling = map[string]string{
	"client/admin/client.go":         "the control plane that its user names",
	"cmd/sidecar/command/client.go":  "the local API or the probes of a sidecar that the operator names",
	"cmd/sidecar/command/control.go": "the Unix socket of a running dev",
	"httpapi/unix.go":                "its own leftover Unix socket, to see whether it is dead",
	"internal/egress/dialer.go":      "every host that a tenant typed, as the policy allows; nobody else dials one",
	"internal/egress/http.go":        "as internal/egress/dialer.go, over HTTP",
	"providers/httpcall.go":          "sends on the client that it is given",
	"providers/oauth/endpoint.go":    "wraps the transport that it is given, to see and bound what an issuer answers",
	"providers/oauth/oauth.go":       "takes the client that reaches issuers; its transport is the egress policy's",
	"providers/runtime.go":           "makes a client of the egress policy's transport, and of none where there is none",
	"tenant/source.go":               "the key sets of issuers that the operator configured",
	"tenant/verifier.go":             "as tenant/source.go",
	"vault/client.go":                "the Vault that the operator configured",
	"vault/options.go":               "as vault/client.go",
}

// dialler names what opens connections, by import path. A store's or a cache's
// SDK dials for its own home, which the import rules hold.
var dialler = map[string][]string{
	"net": {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialUnix", "DialIP", "Dialer"},
	"net/http": {"Client", "DefaultClient", "Transport", "DefaultTransport", "Get", "Head", "Post", "PostForm",
		"RoundTripper"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
	"net/smtp":   {"Dial", "SendMail"},
	"net/rpc":    {"Dial", "DialHTTP"},
}

func TestWhoOpensConnections(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, p := range packages(t) {
		if within(p.ImportPath, []string{"bench/...", "e2e/...", "internal/testenv/...", "internal/egress/egresstest", "httpapi/adminapi/apitest",
			"providers/builtin/internal/vendortest"}) {
			continue
		}
		for _, name := range p.GoFiles {
			file := p.ImportPath + "/" + name
			for _, use := range uses(t, filepath.Join(p.Dir, name), dialler) {
				found[file] = true
				if dialling[file] == "" {
					t.Errorf("%s uses %s: say to whom it connects in the list; a tenant's host goes through internal/egress", file, use)
				}
			}
		}
	}
	for file := range dialling {
		if !found[file] {
			t.Errorf("%s opens no connection any more: take it off the list", file)
		}
	}
}

// uses lists what a file takes of the packages in names, such as "net.Dial".
func uses(t *testing.T, path string, names map[string][]string) (found []string) {
	t.Helper()
	file := parse(t, path)
	imported := map[string]string{} // local name -> import path
	for _, i := range file.Imports {
		full, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		local := full[strings.LastIndexByte(full, '/')+1:]
		if i.Name != nil {
			local = i.Name.Name
		}
		imported[local] = full
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := s.X.(*ast.Ident); ok && slices.Contains(names[imported[from.Name]], s.Sel.Name) {
			found = append(found, imported[from.Name]+"."+s.Sel.Name)
		}
		return true
	})
	return found
}
