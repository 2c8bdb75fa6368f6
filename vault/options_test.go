package vault_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

func TestOptionsReportEveryProblem(t *testing.T) {
	t.Parallel()
	token := vault.Auth{Method: vault.AuthToken, TokenFile: "token"}
	rows := []struct {
		name string
		o    vault.Options
		want []string // pointers
	}{
		{"empty", vault.Options{}, []string{"/address", "/auth/method"}},
		{"path in the address", vault.Options{Address: "https://v:8200/v1", Auth: token}, []string{"/address"}},
		{"credentials in the address", vault.Options{Address: "https://u:p@v:8200", Auth: token}, []string{"/address"}},
		{"no scheme", vault.Options{Address: "v:8200", Auth: token}, []string{"/address"}},
		{"climbing prefix", vault.Options{Address: "https://v", Prefix: "a/../b", Mount: "/m", Auth: token}, []string{"/mount", "/prefix"}},
		{"approle without role id", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "approle"}}, []string{"/auth/role_id"}},
		{"approle with both", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "approle", RoleID: "a", RoleIDFile: "b"}}, []string{"/auth/role_id"}},
		{"kubernetes without role", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "kubernetes"}}, []string{"/auth/role"}},
		{"jwt without file", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "jwt"}}, []string{"/auth/jwt_file"}},
		{"token without file", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "token"}}, []string{"/auth/token_file"}},
		{"climbing auth mount", vault.Options{Address: "https://v", Auth: vault.Auth{Method: "jwt", JWTFile: "f", MountPath: "../sys"}}, []string{"/auth/mount_path"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c, err := vault.Open(t.Context(), row.o)
			if c != nil || fault.CodeOf(err) != fault.InvalidArgument {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, v := range fault.Violations(err) {
				got = append(got, v.Pointer)
			}
			slices.Sort(got)
			if !slices.Equal(got, row.want) {
				t.Fatalf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data": {"ttl": 0, "renewable": false}}`)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports the refused handshakes
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	a := vault.Auth{Method: vault.AuthToken, TokenFile: file(t, dir, "token", "x")}
	ca := file(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	trusting := openClient(t, &server{addr: srv.URL}, "secret", a, func(o *vault.Options) { o.CACertFile = ca })
	ready(t, trusting)
	wary := openClient(t, &server{addr: srv.URL}, "secret", a)
	eventually(t, "the certificate is refused", func() bool { return wary.LoginFailures() > 0 })
	if wary.Ready(t.Context()) == nil {
		t.Fatal("an unknown authority was trusted")
	}
	for _, bad := range []string{file(t, dir, "empty.pem", ""), dir + "/absent.pem"} {
		if _, err := vault.Open(t.Context(), vault.Options{Address: srv.URL, Auth: a, CACertFile: bad}); fault.CodeOf(err) != fault.InvalidArgument ||
			!strings.Contains(fault.Message(err), "CA file") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
