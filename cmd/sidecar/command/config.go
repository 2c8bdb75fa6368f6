package command

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// loadConfig reads the config for a mode; warnings go to stderr. Every problem
// of it is one line, and the exit code is that of wrong usage.
func loadConfig(c *cobra.Command, s streams, env environment, mode config.Mode) (*config.Config, error) {
	cfg, warnings, err := readConfig(c, env, mode)
	for _, w := range warnings {
		fmt.Fprintf(s.err, "sidecar: warning: %s\n", w)
	}
	return cfg, err
}

func readConfig(c *cobra.Command, env environment, mode config.Mode) (*config.Config, []config.Warning, error) {
	list, err := c.Flags().GetStringArray("set")
	if err != nil {
		return nil, nil, usageError{err}
	}
	set := make(map[string]string, len(list))
	for _, kv := range list {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, nil, usagef("--set takes KEY=VALUE, e.g. --set probes.listen=:7413")
		}
		set[key] = value
	}
	cfg, warnings, err := config.Load(config.Options{Path: c.Flag("config").Value.String(), Environ: env, Flags: set, Mode: mode})
	if err != nil {
		return nil, warnings, usageError{err}
	}
	return cfg, warnings, nil
}

// issuersOf turns the config's issuers into the verifier's.
func issuersOf(cfg *config.Config) []tenant.Issuer {
	out := make([]tenant.Issuer, 0, len(cfg.JWT.Issuers))
	for _, i := range cfg.JWT.Issuers {
		t := tenant.Issuer{
			Issuer: i.Issuer, JWKSURL: i.JWKSURL, JWKSFile: i.JWKSFile, PEMFile: i.PEMFile, HMACFile: i.HMACFile,
			Audiences: i.Audiences, Algorithms: i.Algorithms, Tenant: i.Tenant, RoleMap: permissions(i.Roles),
			Claims: tenant.Claims{
				Tenant: i.Claims.Tenant, Organization: i.Claims.Organization,
				Organizations: i.Claims.Organizations, Roles: i.Claims.Roles,
			},
		}
		t.Discovery = i.Discovery
		out = append(out, t)
	}
	return out
}

// keyServerRoots are whom the fetching of key sets trusts: the system's roots and
// those of jwt.ca_file.
func keyServerRoots(cfg *config.Config) (*x509.CertPool, error) {
	path := cfg.JWT.CAFile
	if path == "" {
		return nil, nil
	}
	own, err := config.ReadCAs("jwt.ca_file", path)
	if err != nil {
		return nil, wrongConfig(err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return own, nil //nolint:nilerr // a system without roots: the file's own suffice
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jwt.ca_file: %w", err)
	}
	roots.AppendCertsFromPEM(pem) // it has certificates: ReadCAs saw them
	return roots, nil
}

// permissions converts a role map; nil stays nil, which means "inherit".
func permissions(roles map[string][]string) map[string][]tenant.Permission {
	if roles == nil {
		return nil
	}
	out := make(map[string][]tenant.Permission, len(roles))
	for role, names := range roles {
		for _, n := range names {
			out[role] = append(out[role], tenant.Permission(n))
		}
	}
	return out
}

// vaultOptions turns the config's vault section into the client's.
func vaultOptions(cfg *config.Config) vault.Options {
	v := cfg.Vault
	return vault.Options{
		Address: v.Address, Namespace: v.Namespace, Mount: v.Mount, Prefix: v.Prefix, CACertFile: v.CAFile,
		Auth: vault.Auth{
			Method: v.Auth.Method, MountPath: v.Auth.Mount, Role: v.Auth.Role,
			RoleID: v.Auth.RoleID.Reveal(), RoleIDFile: v.Auth.RoleIDFile, SecretIDFile: v.Auth.SecretIDFile,
			JWTFile: v.Auth.JWTFile, TokenFile: v.Auth.TokenFile,
		},
	}
}
