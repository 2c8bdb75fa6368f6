package config

import (
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Config is everything an operator can set (DESIGN 3.7). Field tags: yaml names
// the key; file says what a path leads to ("secret" files should not be
// world-readable, "public" ones may be, "dir" is a folder).
type Config struct {
	Local     Local         `yaml:"local"`
	Admin     Admin         `yaml:"admin"`
	Probes    Probes        `yaml:"probes"`
	JWT       JWT           `yaml:"jwt"`
	Postgres  Postgres      `yaml:"postgres"`
	Redis     Redis         `yaml:"redis"`
	Vault     Vault         `yaml:"vault"`
	Cache     Cache         `yaml:"cache"`
	Egress    Egress        `yaml:"egress"`
	Providers Providers     `yaml:"providers"`
	Limits    Limits        `yaml:"limits"`
	Login     Login         `yaml:"login"`
	Log       Log           `yaml:"log"`
	Drain     time.Duration `yaml:"drain"` // budget from SIGTERM to exit
	// CacheKey is where in Vault, below vault.mount, the key for tokens shared
	// through Redis lives; "" shares none.
	CacheKey string `yaml:"cache_key"`
}

// Local is the local API's listener.
type Local struct {
	Listen            string        `yaml:"listen"`
	Socket            string        `yaml:"socket"` // path of a Unix socket; replaces listen
	TokenFile         string        `yaml:"token_file" file:"secret"`
	AllowedHosts      []string      `yaml:"allowed_hosts"`      // names without port, beside localhost
	TrustedForwarders []string      `yaml:"trusted_forwarders"` // addresses or prefixes
	Deadline          time.Duration `yaml:"deadline"`           // of one request
}

// Admin is the control plane's listener.
type Admin struct {
	Listen    string `yaml:"listen"`
	PublicURL string `yaml:"public_url"` // what browsers call it; never taken from a Host header
}

// Probes is the listener for probes and metrics.
type Probes struct {
	Listen string `yaml:"listen"`
}

// JWT says whose tokens count.
type JWT struct {
	Issuers []Issuer `yaml:"issuers"`
	// Roles translates an issuer's role names into permissions. An issuer's own
	// map replaces it.
	Roles  map[string][]string `yaml:"roles"`
	CAFile string              `yaml:"ca_file" file:"public"` // for fetching key sets, beside the system's
}

// Issuer is one token issuer with exactly one key source.
type Issuer struct {
	Issuer     string              `yaml:"issuer"`
	JWKSURL    string              `yaml:"jwks_url"`
	Discovery  string              `yaml:"discovery"` // full URL of an OpenID provider configuration
	JWKSFile   string              `yaml:"jwks_file" file:"public"`
	PEMFile    string              `yaml:"pem_file" file:"public"`
	HMACFile   string              `yaml:"hmac_file" file:"secret"`
	Audiences  []string            `yaml:"audiences"`
	Algorithms []string            `yaml:"algorithms"`
	Claims     Claims              `yaml:"claims"`
	Tenant     string              `yaml:"tenant"` // pins the issuer to one tenant
	Roles      map[string][]string `yaml:"roles"`
}

// Claims names an issuer's claims, as literal names or dotted paths. "" stands
// for the default of package tenant.
type Claims struct {
	Tenant        string `yaml:"tenant"`
	Organization  string `yaml:"organization"`
	Organizations string `yaml:"organizations"`
	Roles         string `yaml:"roles"`
}

// Postgres is where records live.
type Postgres struct {
	URLFile  string `yaml:"url_file" file:"secret"`
	MaxConns int    `yaml:"max_conns"`
}

// Redis is the cache between sidecars. It is set when URLFile or Addrs is.
type Redis struct {
	Mode         string   `yaml:"mode"`                        // standalone, sentinel, cluster
	URLFile      string   `yaml:"url_file" file:"secret"`      // redis:// or rediss://
	Addrs        []string `yaml:"addrs"`                       // of sentinels or cluster nodes
	Master       string   `yaml:"master"`                      // sentinel's name of the primary
	Username     string   `yaml:"username"`                    // with addrs
	PasswordFile string   `yaml:"password_file" file:"secret"` // with addrs
	TLS          bool     `yaml:"tls"`                         // with addrs
	CAFile       string   `yaml:"ca_file" file:"public"`
}

// Vault is where secrets live.
type Vault struct {
	Address   string    `yaml:"address"`
	Namespace string    `yaml:"namespace"`
	Mount     string    `yaml:"mount"`
	Prefix    string    `yaml:"prefix"`
	CAFile    string    `yaml:"ca_file" file:"public"`
	Auth      VaultAuth `yaml:"auth"`
}

// VaultAuth says how to log in to Vault.
type VaultAuth struct {
	Method       string       `yaml:"method"` // kubernetes, approle, jwt, token, caller_jwt
	Role         string       `yaml:"role"`   // of kubernetes, jwt and caller_jwt
	Mount        string       `yaml:"mount"`  // of the auth method; "" means its own name
	RoleID       secret.Value `yaml:"role_id"`
	RoleIDFile   string       `yaml:"role_id_file" file:"public"`
	SecretIDFile string       `yaml:"secret_id_file" file:"secret"`
	JWTFile      string       `yaml:"jwt_file" file:"secret"`
	TokenFile    string       `yaml:"token_file" file:"secret"`
}

// Cache bounds what a sidecar holds, and for how long.
type Cache struct {
	TTL                time.Duration            `yaml:"ttl"`
	NegativeTTL        time.Duration            `yaml:"negative_ttl"`
	MaxStale           time.Duration            `yaml:"max_stale"`
	MaxStaleByCategory map[string]time.Duration `yaml:"max_stale_by_category"`
	MaxBytes           Size                     `yaml:"max_bytes"`
}

// Egress says which private hosts tenants may name. The hard deny (loopback,
// link-local, metadata services) stays, but for AllowLoopback.
type Egress struct {
	Allow         []string `yaml:"allow"` // addresses, prefixes and host names, each with an optional :port
	AllowLoopback Loopback `yaml:"allow_loopback"`
}

// Providers configures kinds.
type Providers struct {
	DeclaredDir string            `yaml:"declared_dir" file:"dir"`
	Endpoints   map[string]string `yaml:"endpoints"` // kind (or kind.purpose) -> base URL
}

// Limits keeps one tenant from starving the others. Zero means no limit.
type Limits struct {
	MissesPerTenant   int `yaml:"misses_per_tenant"`   // in flight
	RequestsPerSecond int `yaml:"requests_per_second"` // per tenant
	Burst             int `yaml:"burst"`               // per tenant
	// AdminRequestsPerSecond and AdminBurst are of one tenant at the admin API, per
	// replica.
	AdminRequestsPerSecond int `yaml:"admin_requests_per_second"`
	AdminBurst             int `yaml:"admin_burst"`
}

// Login is the OIDC client of the Settings UI.
type Login struct {
	Issuer           string   `yaml:"issuer"`
	ClientID         string   `yaml:"client_id"`
	ClientSecretFile string   `yaml:"client_secret_file" file:"secret"`
	Scopes           []string `yaml:"scopes"`
}

// Log says what is logged.
type Log struct {
	Level string `yaml:"level"` // debug, info, warn, error
}

// Size is a number of bytes, written as 32MiB, 64KiB, 1GiB or a bare number.
type Size int64

// Mode says which command loads, because commands need different keys.
type Mode string

// The modes.
const (
	ModeDev     Mode = "dev"     // embedded defaults, listeners on loopback
	ModeServe   Mode = "serve"   // needs issuers, Postgres and Vault
	ModeAdmin   Mode = "admin"   // as serve
	ModeImport  Mode = "import"  // needs Postgres and Vault
	ModeMigrate Mode = "migrate" // needs Postgres
	ModeNone    Mode = ""        // needs nothing: client commands
)

// reads are the sections whose files a mode opens. One config serves all
// commands, but a migration's pod mounts the database's URL and nothing else.
// A mode that is not here checks all files.
var reads = map[Mode][]string{
	ModeDev:     {"local", "jwt", "providers", "login"},
	ModeServe:   {"local", "jwt", "postgres", "redis", "vault", "providers"},
	ModeAdmin:   {"jwt", "postgres", "redis", "vault", "providers", "login"},
	ModeImport:  {"postgres", "redis", "vault", "providers"},
	ModeMigrate: {"postgres"},
}

// defaults returns the values that hold where nothing is said.
func defaults(m Mode) *Config {
	c := &Config{
		Local:    Local{Listen: "127.0.0.1:7411", Deadline: 2 * time.Second},
		Admin:    Admin{Listen: ":8080"},
		Probes:   Probes{Listen: ":7412"},
		Postgres: Postgres{MaxConns: 4},
		Redis:    Redis{Mode: "standalone"},
		Vault:    Vault{Mount: "secret", Prefix: "patchbay"},
		Cache: Cache{
			TTL: time.Minute, NegativeTTL: 10 * time.Second, MaxStale: time.Hour, MaxBytes: 32 << 20,
		},
		Limits: Limits{MissesPerTenant: 32, AdminRequestsPerSecond: 50, AdminBurst: 200},
		Login:  Login{Scopes: []string{"openid", "profile"}},
		Log:    Log{Level: "info"},
		Drain:  20 * time.Second,
	}
	if m == ModeDev {
		// A laptop's network is not a pod's: nothing but loopback may reach dev.
		c.Admin.Listen = "127.0.0.1:8080"
		c.Probes.Listen = "127.0.0.1:7412"
		c.Egress.AllowLoopback.All = true
	}
	return c
}
