package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

const (
	defaultURL     = "http://127.0.0.1:7411"
	defaultDataDir = ".patchbay"
	answerLimit    = 4 << 20
)

// localClient calls a local API at an http URL or at unix:///path.
func localClient(address string) (*http.Client, string, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}, "http://localhost", nil
	}
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		return nil, "", usagef("the URL must start with http://, https:// or unix://")
	}
	return &http.Client{Transport: &http.Transport{Proxy: nil}, Timeout: 10 * time.Second}, strings.TrimSuffix(address, "/"), nil
}

func resolveCommand(s streams, env environment) *cobra.Command {
	var address, format, second string
	var caller caller
	c := &cobra.Command{
		Use: "resolve CATEGORY", Short: "Ask a running local API for a backend", Args: cobra.ExactArgs(1),
		Long: "Asks a running local API which backend is the default for a category, and prints its answer,\n" +
			"secrets included. Where a `sidecar dev` runs on the data dir, its local API is asked. Without a\n" +
			"token, and with such a data dir, it mints one.",
		Example: "  sidecar resolve storage\n  sidecar resolve email --url unix:///run/patchbay.sock --token-file jwt",
		RunE: func(c *cobra.Command, args []string) error {
			if format != "json" {
				return usagef("--format %s is not known; this build answers json", format)
			}
			var api apiAddress
			if address == "" {
				if address = env.get("PATCHBAY_URL"); address == "" {
					api = whereToAsk(c.Context(), caller.dataDir)
					address = api.URL
				}
			}
			client, base, err := localClient(address)
			if err != nil {
				return err
			}
			token, err := caller.token(c.Context(), s, env, args[0])
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, base+"/v1/resolve/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return usagef("--url %s is not a URL", address)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if api.Localhost {
				req.Host = "localhost"
			}
			if second != "" {
				own, err := readToken(second)
				if err != nil {
					return err
				}
				req.Header.Set("X-Patchbay-Token", own)
			}
			if caller.organization != "" {
				req.Header.Set("X-Organization-Id", caller.organization)
			}
			res, err := client.Do(req)
			if err != nil {
				return fmt.Errorf("nothing answers at %s: is `sidecar dev` or `sidecar serve` running there?", address)
			}
			defer func() { _ = res.Body.Close() }() // read to its end or abandoned
			body, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
			if err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			if res.StatusCode != http.StatusOK {
				return answeredWith(address, res.Status, body)
			}
			_, err = fmt.Fprintf(s.out, "%s\n", body)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&address, "url", "", "local API (or PATCHBAY_URL; default: that of the dev which runs on --data-dir, else "+defaultURL+")")
	f.StringVar(&caller.file, "token-file", "", "file with the JWT (or PATCHBAY_TOKEN, PATCHBAY_TOKEN_FILE)")
	f.StringVar(&second, "local-token-file", "", "file with the local API's own token, where local.token_file asks for one")
	f.StringVar(&format, "format", "json", "json")
	f.StringVar(&caller.organization, "org", "", "ask for this organization instead of the token's")
	f.StringVar(&caller.tenant, "tenant", "", "tenant of a token minted from a dev data dir (default: one that has an answer)")
	f.StringVar(&caller.dataDir, "data-dir", defaultDataDir, "data dir of a dev: whose local API to ask, and where to mint a token when none is given")
	return c
}

// answeredWith turns a problem into a line.
func answeredWith(address, status string, body []byte) error {
	var p struct{ Code, Detail, Title string }
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return fmt.Errorf("%s answered %s: is that a Patchbay local API?", address, status)
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	return fmt.Errorf("%s: %s", p.Code, p.Detail)
}

// caller is as whom `sidecar resolve` asks.
type caller struct{ file, dataDir, tenant, organization string }

// token finds the JWT: a file, the environment, or the dev issuer.
func (c caller) token(ctx context.Context, s streams, env environment, category string) (string, error) {
	file := c.file
	if file == "" {
		if t := env.get("PATCHBAY_TOKEN"); t != "" {
			return t, nil
		}
		file = env.get("PATCHBAY_TOKEN_FILE")
	}
	if file != "" {
		return readToken(file)
	}
	if _, err := os.Stat(filepath.Join(c.dataDir, issuerDir)); err != nil {
		return "", usagef("no token: give --token-file or PATCHBAY_TOKEN (there is no dev data dir at %s to mint one from)", c.dataDir)
	}
	issuer, err := devissuer.Open(filepath.Join(c.dataDir, issuerDir))
	if err != nil {
		return "", err
	}
	claims := devissuer.Claims{Tenant: c.tenant, Organization: c.organization, TTL: time.Minute}
	if c.tenant == "" || c.organization == "" {
		whom, err := whomToAsk(ctx, c.dataDir, whomCall{Tenant: c.tenant, Category: category})
		if err != nil {
			return "", err
		}
		claims.Tenant = whom.Tenant
		if c.organization == "" {
			claims.Organization = whom.Organization
		}
	}
	token, err := issuer.Mint(claims)
	if fault.CodeOf(err) == fault.InvalidArgument {
		return "", usageError{err}
	}
	if err == nil {
		who := claims.Tenant
		if claims.Organization != "" {
			who += ", organization " + claims.Organization
		}
		fmt.Fprintf(s.err, "sidecar: using a one-minute token for tenant %s, minted from %s\n", who, c.dataDir)
	}
	return token, err
}

func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("the token file %s is empty", file)
	}
	return token, nil
}

// whereToAsk lets the dev that holds a data dir say where its local API is: it
// may listen anywhere, and a token of its issuer is for it alone.
func whereToAsk(ctx context.Context, dir string) apiAddress {
	var api apiAddress
	out, err := callDev(ctx, dir, "address", struct{}{})
	if err != nil || json.Unmarshal([]byte(out), &api) != nil || api.URL == "" {
		return apiAddress{URL: defaultURL} // none runs, or one of a version that does not say
	}
	return api
}

// whomToAsk lets the dev that holds a data dir say who has an answer. Where none
// runs, something else may serve its tokens: the bundled example is assumed.
func whomToAsk(ctx context.Context, dir string, call whomCall) (whom, error) {
	out, err := callDev(ctx, dir, "whom", call)
	switch {
	case errors.Is(err, errNobody) && call.Tenant == "":
		return whom{Tenant: "acme", Organization: "acme"}, nil
	case errors.Is(err, errNobody):
		return whom{Tenant: call.Tenant}, nil
	case err != nil:
		return whom{}, err
	}
	var w whom
	if err := json.Unmarshal([]byte(out), &w); err != nil {
		return whom{}, fmt.Errorf("the dev of %s answered something else: is it of another version?", dir)
	}
	return w, nil
}

func tokenCommand(s streams, _ environment) *cobra.Command {
	var dataDir, tenantID, org, orgs, roles, subject string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "token", Short: "Print a JWT of the dev issuer", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if tenantID == "" {
				return usagef("--tenant is needed, e.g. sidecar token --tenant acme --org acme")
			}
			if ttl <= 0 {
				return usagef("--ttl must be positive")
			}
			// The key is made here when dev has never run: it will use this one.
			if err := os.MkdirAll(filepath.Join(dataDir, issuerDir), 0o700); err != nil {
				return fmt.Errorf("the data dir %s cannot be made: %w", dataDir, err)
			}
			issuer, err := devissuer.Open(filepath.Join(dataDir, issuerDir))
			if err != nil {
				return err
			}
			token, err := issuer.Mint(devissuer.Claims{
				Tenant: tenantID, Organization: org, Organizations: splitList(orgs), Roles: splitList(roles), Subject: subject, TTL: ttl,
			})
			if fault.CodeOf(err) == fault.InvalidArgument {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, token)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", defaultDataDir, "data dir of `sidecar dev`")
	f.StringVar(&tenantID, "tenant", "", "tenant id")
	f.StringVar(&org, "org", "", "active organization")
	f.StringVar(&orgs, "orgs", "", "allowed organizations, by comma; * for all (default: only --org)")
	f.StringVar(&roles, "roles", "", "roles, by comma")
	f.StringVar(&subject, "subject", "", "user, whom audit and consents name")
	f.DurationVar(&ttl, "ttl", time.Hour, "time to live")
	return c
}

func splitList(s string) []string {
	var out []string
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func healthcheckCommand(_ streams, env environment) *cobra.Command {
	var address string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 when the sidecar is ready (for probes without a shell)", Args: cobra.NoArgs,
		Long: "Asks /readyz of the process that runs with the same --config and environment.",
		RunE: func(c *cobra.Command, _ []string) error {
			if address == "" {
				// Warnings are the served process's to give, once and not at each probe.
				cfg, _, err := readConfig(c, env, config.ModeNone)
				if err != nil {
					return err
				}
				address = "http://" + callable(cfg.Probes.Listen) + "/readyz"
			}
			if strings.HasPrefix(address, "unix:") {
				return usagef("probes are not on the local API's socket: give probes.listen, or --url http://HOST:PORT/readyz")
			}
			ctx, cancel := context.WithTimeout(c.Context(), 3*time.Second)
			defer cancel()
			client, base, err := localClient(address)
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
			if err != nil {
				return usagef("--url is not a URL")
			}
			res, err := client.Do(req)
			if err != nil {
				return fmt.Errorf("nothing answers at %s: is the sidecar running?", address)
			}
			defer func() { _ = res.Body.Close() }() // the status is all that counts
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answered %s: look at %s?verbose", address, res.Status, address)
			}
			return nil
		},
	}
	c.Flags().StringVar(&address, "url", "", "probe URL (default: /readyz on probes.listen)")
	return c
}
