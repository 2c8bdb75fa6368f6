package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

const (
	defaultURL     = "http://127.0.0.1:7411"
	defaultDataDir = ".patchbay"
	answerLimit    = 4 << 20
)

// localClient calls a local API at an http URL or at unix:///path.
func localClient(url string) (*http.Client, string, error) {
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}, "http://localhost", nil
	}
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return nil, "", usagef("the URL must start with http://, https:// or unix://")
	}
	return &http.Client{Transport: &http.Transport{Proxy: nil}, Timeout: 10 * time.Second}, strings.TrimSuffix(url, "/"), nil
}

func resolveCommand(s streams, env environment) *cobra.Command {
	var url, tokenFile, format, organization, dataDir, tenantID string
	c := &cobra.Command{
		Use: "resolve CATEGORY", Short: "Ask a running local API for a backend", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if format != "json" {
				return usagef("--format %s is not known; this build answers json", format)
			}
			if url == "" {
				if url = env.get("PATCHBAY_URL"); url == "" {
					url = defaultURL
				}
			}
			token, err := callerToken(s, env, tokenFile, dataDir, tenantID, organization)
			if err != nil {
				return err
			}
			client, base, err := localClient(url)
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, base+"/v1/resolve/"+args[0], nil)
			if err != nil {
				return usagef("%q is not a category", args[0])
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if organization != "" {
				req.Header.Set("X-Organization-Id", organization)
			}
			res, err := client.Do(req)
			if err != nil {
				return fmt.Errorf("nothing answers at %s: is `sidecar dev` or `sidecar serve` running there?", url)
			}
			defer func() { _ = res.Body.Close() }() // read to its end or abandoned
			body, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
			if err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			if res.StatusCode != http.StatusOK {
				var p struct{ Code, Detail, Title string }
				if json.Unmarshal(body, &p) != nil || p.Code == "" {
					return fmt.Errorf("%s answered %s", url, res.Status)
				}
				if p.Detail == "" {
					p.Detail = p.Title
				}
				return fmt.Errorf("%s: %s", p.Code, p.Detail)
			}
			_, err = fmt.Fprintf(s.out, "%s\n", body)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&url, "url", "", "local API (or PATCHBAY_URL; default "+defaultURL+")")
	f.StringVar(&tokenFile, "token-file", "", "file with the JWT (or PATCHBAY_TOKEN, PATCHBAY_TOKEN_FILE)")
	f.StringVar(&format, "format", "json", "json")
	f.StringVar(&organization, "org", "", "ask for this organization instead of the token's")
	f.StringVar(&tenantID, "tenant", "acme", "tenant of a token minted from a dev data dir")
	f.StringVar(&dataDir, "data-dir", defaultDataDir, "dev data dir to mint a token from when none is given")
	return c
}

// callerToken finds the JWT: a file, the environment, or the dev issuer.
func callerToken(s streams, env environment, file, dataDir, tenantID, organization string) (string, error) {
	if file == "" {
		if t := env.get("PATCHBAY_TOKEN"); t != "" {
			return t, nil
		}
		file = env.get("PATCHBAY_TOKEN_FILE")
	}
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading the token file: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	if _, err := os.Stat(filepath.Join(dataDir, issuerDir)); err != nil {
		return "", usagef("no token: give --token-file or PATCHBAY_TOKEN (there is no dev data dir at %s to mint one from)", dataDir)
	}
	issuer, err := devissuer.Open(filepath.Join(dataDir, issuerDir))
	if err != nil {
		return "", err
	}
	if organization == "" {
		organization = tenantID
	}
	token, err := issuer.Mint(devissuer.Claims{Tenant: tenantID, Organization: organization, TTL: time.Minute})
	if err == nil {
		fmt.Fprintf(s.err, "sidecar: using a one-minute token for tenant %s, minted from %s\n", tenantID, dataDir)
	}
	return token, err
}

func tokenCommand(s streams, _ environment) *cobra.Command {
	var dataDir, tenantID, org, orgs, roles string
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
				Tenant: tenantID, Organization: org, Organizations: splitList(orgs), Roles: splitList(roles), TTL: ttl,
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
	var url string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 when the sidecar is ready (for probes without a shell)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if url == "" {
				addr := env.get("PATCHBAY_PROBES_LISTEN")
				if addr == "" {
					addr = ":7412"
				}
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return usagef("PATCHBAY_PROBES_LISTEN is not host:port")
				}
				if host == "" || host == "0.0.0.0" || host == "::" {
					host = "127.0.0.1"
				}
				url = "http://" + net.JoinHostPort(host, port) + "/readyz"
			}
			ctx, cancel := context.WithTimeout(c.Context(), 3*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return usagef("--url is not a URL")
			}
			res, err := (&http.Client{Transport: &http.Transport{Proxy: nil}}).Do(req)
			if err != nil {
				return fmt.Errorf("nothing answers at %s", url)
			}
			defer func() { _ = res.Body.Close() }() // the status is all that counts
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answered %s", url, res.Status)
			}
			return nil
		},
	}
	c.Flags().StringVar(&url, "url", "", "probe URL (default: /readyz on probes.listen)")
	return c
}
