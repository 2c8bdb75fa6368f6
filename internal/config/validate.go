package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxTTL is half of the ten minutes that a relay replays after Redis lost its
// memory: an entry that lived longer could outlive what would correct it.
const maxTTL = 5 * time.Minute

var (
	hmacAlgorithms   = []string{"HS256", "HS384", "HS512"}
	publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	permissions      = []string{"connectors.read", "connectors.write", "secrets.read", "platform.admin"}
	tenantGrammar    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	categoryGrammar  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	pathGrammar      = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	levels           = []string{"debug", "info", "warn", "error"}
	redisModes       = []string{"standalone", "sentinel", "cluster"}
	vaultMethods     = []string{"kubernetes", "approle", "jwt", "token", "caller_jwt"}
)

func (l *loader) validate(m Mode) {
	l.listeners()
	l.issuers()
	l.roles("jwt.roles", l.c.JWT.Roles)
	l.redis()
	l.vault()
	l.cache()
	l.egress()
	l.rest()
	l.required(m)
}

// bad reports a problem of a key, unless the key already has one: a value that
// could not be read should not be judged too.
func (l *loader) bad(path, message string) {
	for _, p := range l.problems {
		if p.Path == path {
			return
		}
	}
	l.problem(path, l.place(path), message)
}

func (l *loader) oneOf(path, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		l.bad(path, "expected one of "+strings.Join(allowed, ", "))
	}
}

func (l *loader) listeners() {
	c := l.c
	address := func(path, value string) {
		_, port, err := net.SplitHostPort(value)
		n, convErr := strconv.Atoi(port)
		if err != nil || convErr != nil || n < 0 || n > 65535 {
			l.bad(path, "expected host:port, such as 127.0.0.1:7411")
		}
	}
	address("local.listen", c.Local.Listen)
	address("admin.listen", c.Admin.Listen)
	address("probes.listen", c.Probes.Listen)
	if c.Local.Socket != "" && l.given("local.listen") && l.given("local.socket") {
		l.bad("local.socket", "local.listen is set too; the local API has one listener")
	}
	if c.Local.Deadline <= 0 {
		l.bad("local.deadline", "must be greater than zero")
	}
	for i, h := range c.Local.AllowedHosts {
		if h == "" || strings.ContainsAny(h, "/ @*") || strings.Contains(h, ":") && net.ParseIP(strings.Trim(h, "[]")) == nil {
			l.bad(fmt.Sprintf("local.allowed_hosts[%d]", i), "expected a host name or address without scheme and port")
		}
	}
	for i, f := range c.Local.TrustedForwarders {
		if !isPrefix(f) {
			l.bad(fmt.Sprintf("local.trusted_forwarders[%d]", i), "expected an address or a prefix, such as 10.0.0.0/8")
		}
	}
	if c.Admin.PublicURL != "" {
		l.url("admin.public_url", c.Admin.PublicURL, "http", "https")
	}
	ports := map[string]string{}
	for _, a := range []struct{ path, value string }{
		{"local.listen", c.Local.Listen}, {"admin.listen", c.Admin.Listen}, {"probes.listen", c.Probes.Listen},
	} {
		if a.path == "local.listen" && c.Local.Socket != "" || strings.HasSuffix(a.value, ":0") {
			continue
		}
		if other := ports[a.value]; other != "" {
			l.bad(a.path, "is the same address as "+other)
		}
		ports[a.value] = a.path
	}
}

// isPrefix tells whether s is an address or a prefix.
func isPrefix(s string) bool {
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// url checks an absolute URL. Credentials in it would end in logs and dumps.
func (l *loader) url(path, value string, schemes ...string) {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
		l.bad(path, "expected a URL that starts with "+strings.Join(schemes, ":// or ")+"://")
	case u.User != nil:
		l.bad(path, "credentials don't belong into a URL here")
	}
}

func (l *loader) issuers() {
	seen := map[string]int{}
	for i, s := range l.c.JWT.Issuers {
		at := func(key string) string { return fmt.Sprintf("jwt.issuers[%d].%s", i, key) }
		if s.Issuer == "" {
			l.bad(at("issuer"), "is missing; it is compared with the token's iss")
		} else if j, twice := seen[s.Issuer]; twice {
			l.bad(at("issuer"), fmt.Sprintf("is the same issuer as jwt.issuers[%d]", j))
		} else {
			seen[s.Issuer] = i
		}
		var sources []string
		for _, k := range []struct {
			name string
			set  bool
		}{
			{"jwks_url", s.JWKSURL != ""}, {"discovery", s.Discovery != ""}, {"jwks_file", s.JWKSFile != ""},
			{"pem_file", s.PEMFile != ""}, {"hmac_file", s.HMACFile != ""},
		} {
			if k.set {
				sources = append(sources, k.name)
			}
		}
		switch {
		case len(sources) == 0:
			l.bad(fmt.Sprintf("jwt.issuers[%d]", i), "has no key source; give one of jwks_url, discovery, jwks_file, pem_file, hmac_file")
		case len(sources) > 1:
			l.bad(fmt.Sprintf("jwt.issuers[%d]", i), "has several key sources ("+strings.Join(sources, ", ")+"); give one")
		}
		if s.JWKSURL != "" {
			l.url(at("jwks_url"), s.JWKSURL, "https", "http")
		}
		if s.Discovery != "" {
			l.url(at("discovery"), s.Discovery, "https", "http")
		}
		if len(s.Audiences) == 0 {
			l.bad(at("audiences"), "is missing; a token for another service must not count here")
		}
		l.algorithms(at("algorithms"), s)
		if s.Tenant != "" && !tenantGrammar.MatchString(s.Tenant) {
			l.bad(at("tenant"), "is not a tenant's id: a-z, 0-9, _ and -, at most 63 characters")
		}
		l.roles(at("roles"), s.Roles)
	}
}

// algorithms refuses lists that mix HMAC and public keys: a verifier with both
// can be made to take a public key for an HMAC secret.
func (l *loader) algorithms(path string, s Issuer) {
	var hmac, public bool
	for i, a := range s.Algorithms {
		switch {
		case slices.Contains(hmacAlgorithms, a):
			hmac = true
		case slices.Contains(publicAlgorithms, a):
			public = true
		default:
			l.bad(fmt.Sprintf("%s[%d]", path, i), "expected one of "+strings.Join(append(slices.Clone(publicAlgorithms), hmacAlgorithms...), ", "))
		}
	}
	switch {
	case len(s.Algorithms) == 0:
		l.bad(path, "is missing; list what the issuer signs with, such as ES256 or RS256")
	case hmac && public:
		l.bad(path, "mixes HMAC and public-key algorithms")
	case hmac && s.HMACFile == "":
		l.bad(path, "HMAC algorithms need hmac_file")
	case public && s.HMACFile != "":
		l.bad(path, "hmac_file needs HMAC algorithms")
	}
}

func (l *loader) roles(path string, roles map[string][]string) {
	for _, role := range sortedKeys(roles) {
		for i, p := range roles[role] {
			if !slices.Contains(permissions, p) {
				l.bad(fmt.Sprintf("%s.%s[%d]", path, role, i), "expected one of "+strings.Join(permissions, ", "))
			}
		}
	}
}

func (l *loader) redis() {
	r := l.c.Redis
	l.oneOf("redis.mode", r.Mode, redisModes)
	switch {
	case r.URLFile != "" && len(r.Addrs) > 0:
		l.bad("redis.addrs", "redis.url_file is set too; give one")
	case r.Mode == "sentinel" && (len(r.Addrs) == 0 || r.Master == ""):
		l.bad("redis.mode", "sentinel needs redis.addrs and redis.master")
	case r.Mode == "cluster" && len(r.Addrs) == 0 && r.URLFile == "":
		l.bad("redis.mode", "cluster needs redis.addrs")
	case r.Mode != "sentinel" && r.Master != "":
		l.bad("redis.master", "is for redis.mode sentinel")
	case r.Mode == "standalone" && len(r.Addrs) > 1:
		l.bad("redis.addrs", "standalone has one address; set redis.mode")
	}
	for i, a := range r.Addrs {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" || strings.Contains(a, "@") {
			l.bad(fmt.Sprintf("redis.addrs[%d]", i), "expected host:port")
		}
	}
	if len(r.Addrs) == 0 {
		for _, k := range []struct {
			key string
			set bool
		}{{"username", r.Username != ""}, {"tls", r.TLS}} {
			if k.set {
				l.bad("redis."+k.key, "goes with redis.addrs; redis.url_file says it itself")
			}
		}
	}
	if r.URLFile != "" && r.PasswordFile != "" {
		l.bad("redis.password_file", "redis.url_file carries the password; give one")
	}
}

func (l *loader) vault() {
	v := l.c.Vault
	if v.Address != "" {
		l.url("vault.address", v.Address, "https", "http")
		if u, err := url.Parse(v.Address); err == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "") {
			l.bad("vault.address", "expected scheme, host and port only; a path belongs into vault.mount or vault.prefix")
		}
	}
	if !cleanPath(v.Mount) {
		l.bad("vault.mount", "expected a path such as secret, without outer slashes and dot segments")
	}
	if !cleanPath(v.Prefix) {
		l.bad("vault.prefix", "expected a path such as patchbay, without outer slashes and dot segments")
	}
	a := v.Auth
	if a.Method != "" {
		l.oneOf("vault.auth.method", a.Method, vaultMethods)
	}
	if a.Mount != "" && !cleanPath(a.Mount) {
		l.bad("vault.auth.mount", "expected a path such as kubernetes, without outer slashes and dot segments")
	}
	need := func(key string, set bool) {
		if !set {
			l.bad("vault.auth."+key, "is missing; method "+a.Method+" needs it")
		}
	}
	// A key of another method is a contradiction, not a spare part: whoever
	// wrote it believes that it is used.
	uses := map[string][]string{
		"kubernetes": {"role", "jwt_file"}, "jwt": {"role", "jwt_file"},
		"approle": {"role_id", "role_id_file", "secret_id_file"}, "token": {"token_file"},
		"caller_jwt": {"role"},
	}
	switch a.Method {
	case "kubernetes":
		need("role", a.Role != "")
	case "jwt":
		need("role", a.Role != "")
		need("jwt_file", a.JWTFile != "")
	case "approle":
		need("role_id", a.RoleID.IsSet() || a.RoleIDFile != "")
		need("secret_id_file", a.SecretIDFile != "")
		if a.RoleID.IsSet() && a.RoleIDFile != "" {
			l.bad("vault.auth.role_id_file", "vault.auth.role_id is set too; give one")
		}
	case "token":
		need("token_file", a.TokenFile != "")
	}
	given := map[string]bool{
		"role": a.Role != "", "role_id": a.RoleID.IsSet(), "role_id_file": a.RoleIDFile != "",
		"secret_id_file": a.SecretIDFile != "", "jwt_file": a.JWTFile != "", "token_file": a.TokenFile != "",
	}
	for _, key := range sortedKeys(given) {
		switch own, known := uses[a.Method]; {
		case !given[key] || slices.Contains(own, key):
		case known:
			l.bad("vault.auth."+key, "is not used by method "+a.Method)
		case a.Method == "":
			l.bad("vault.auth.method", "is missing; vault.auth."+key+" is set")
		}
	}
}

// cleanPath tells whether s has clean segments only: what is spelled here stands
// before a tenant's id in every secret's path.
func cleanPath(s string) bool {
	if !pathGrammar.MatchString(s) {
		return false
	}
	for seg := range strings.SplitSeq(s, "/") {
		if strings.Trim(seg, ".") == "" {
			return false
		}
	}
	return true
}

func (l *loader) cache() {
	// A default that nobody wrote follows what somebody did.
	if !l.given("cache.negative_ttl") && l.c.Cache.TTL > 0 {
		l.c.Cache.NegativeTTL = min(l.c.Cache.NegativeTTL, l.c.Cache.TTL)
	}
	c := l.c.Cache
	switch {
	case c.TTL < time.Second:
		l.bad("cache.ttl", "must be at least 1s")
	case c.TTL >= maxTTL:
		l.bad("cache.ttl", "must be less than 5m, half of what a relay replays")
	}
	switch {
	case c.NegativeTTL <= 0:
		l.bad("cache.negative_ttl", "must be greater than zero")
	case c.NegativeTTL > c.TTL:
		l.bad("cache.negative_ttl", "is greater than cache.ttl")
	}
	if c.MaxStale < c.TTL {
		l.bad("cache.max_stale", "is less than cache.ttl")
	}
	for _, name := range sortedKeys(c.MaxStaleByCategory) {
		path := "cache.max_stale_by_category." + name
		if !categoryGrammar.MatchString(name) {
			l.bad(path, "is not a category: a-z, 0-9 and _, starting with a letter")
		} else if c.MaxStaleByCategory[name] < c.TTL {
			l.bad(path, "is less than cache.ttl")
		}
	}
	if c.MaxBytes < 1<<20 {
		l.bad("cache.max_bytes", "must be at least 1MiB")
	}
}

func (l *loader) rest() {
	c := l.c
	for _, kind := range sortedKeys(c.Providers.Endpoints) {
		l.url("providers.endpoints."+kind, c.Providers.Endpoints[kind], "https", "http")
	}
	if c.Postgres.MaxConns < 1 {
		l.bad("postgres.max_conns", "must be at least 1")
	}
	if c.Drain <= 0 {
		l.bad("drain", "must be greater than zero")
	}
	if c.Limits.Burst > 0 && c.Limits.RequestsPerSecond == 0 {
		l.bad("limits.burst", "needs limits.requests_per_second")
	}
	if c.CacheKey != "" && !cleanPath(c.CacheKey) {
		l.bad("cache_key", "expected a path in Vault, without outer slashes and dot segments")
	}
	l.oneOf("log.level", c.Log.Level, levels)
	if c.Login.Issuer != "" {
		l.url("login.issuer", c.Login.Issuer, "https", "http")
		if c.Login.ClientID == "" {
			l.bad("login.client_id", "is missing; login.issuer is set")
		}
		if c.Admin.PublicURL == "" {
			l.bad("admin.public_url", "is missing; login needs it for its redirect")
		}
	} else if c.Login.ClientID != "" || c.Login.ClientSecretFile != "" {
		l.bad("login.issuer", "is missing; login.client_id or login.client_secret_file is set")
	}
}

// required reports what a command can't do without. Silent when the file could
// not be read: everything would be missing.
func (l *loader) required(m Mode) {
	if l.broken {
		return
	}
	c := l.c
	need := func(path string, set bool, modes ...Mode) {
		if !set && slices.Contains(modes, m) {
			l.bad(path, "is missing; sidecar "+string(m)+" needs it")
		}
	}
	need("jwt.issuers", len(c.JWT.Issuers) > 0, ModeServe, ModeAdmin)
	need("postgres.url_file", c.Postgres.URLFile != "", ModeServe, ModeAdmin, ModeImport, ModeMigrate)
	need("vault.address", c.Vault.Address != "", ModeServe, ModeAdmin, ModeImport)
	need("vault.auth.method", c.Vault.Auth.Method != "", ModeServe, ModeAdmin, ModeImport)
	if c.Vault.Auth.Method == "caller_jwt" && (m == ModeAdmin || m == ModeImport) {
		l.bad("vault.auth.method", "caller_jwt is for sidecar serve, whose callers bring a JWT; sidecar "+string(m)+" has none")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
