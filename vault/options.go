package vault

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// The values of Auth.Method.
const (
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
	AuthJWT        = "jwt"
	AuthToken      = "token"
	// AuthCallerJWT is OpenCallers': every caller's JWT is its own login.
	AuthCallerJWT = "caller_jwt"
)

// Auth tells how to log in. Files are read at each login, so that what rotates
// them (a projected volume, an agent) needs no restart.
type Auth struct {
	Method       string
	MountPath    string // of the auth method; default its name
	Role         string // kubernetes, jwt, caller_jwt (where empty: the mount's default role)
	RoleID       string // approle; or RoleIDFile
	RoleIDFile   string
	SecretIDFile string // approle; may be absent for roles that bind no secret id
	JWTFile      string // jwt; kubernetes defaults to the service account's token
	TokenFile    string // token; read again when it changes
}

// Options of Open. No VAULT_* or proxy variable of the environment is read:
// what the config file says is all there is.
type Options struct {
	Address       string // https://host:port, no path
	Namespace     string // Vault Enterprise, OpenBao; usually empty
	Mount         string // of KV version 2; default "secret"
	Prefix        string // below the mount; default "patchbay"
	CACertFile    string // PEM; default: the system's roots
	Auth          Auth
	MaxConcurrent int           // requests in flight at once; default 32
	Timeout       time.Duration // of one HTTP request; default 5 s
	FilePoll      time.Duration // how often a token file is looked at; default 5 s
	BackoffMin    time.Duration // after a failed login; default 250 ms, doubling
	BackoffMax    time.Duration // default 15 s
	Log           *slog.Logger
	Rand          func() float64   // [0, 1), for jitter; default math/rand
	Clock         func() time.Time // default time.Now; judges expiry only
}

const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

func (o *Options) setDefaults() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	dur := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Mount, "secret")
	def(&o.Prefix, "patchbay")
	if o.Auth.Method == AuthCallerJWT {
		def(&o.Auth.MountPath, AuthJWT)
	}
	def(&o.Auth.MountPath, o.Auth.Method)
	if o.Auth.Method == AuthKubernetes {
		def(&o.Auth.JWTFile, serviceAccountToken)
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = 32
	}
	dur(&o.Timeout, 5*time.Second)
	dur(&o.FilePoll, 5*time.Second)
	dur(&o.BackoffMin, 250*time.Millisecond)
	dur(&o.BackoffMax, 15*time.Second)
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// validate reports every problem, with the config key's last segment as pointer.
func (o *Options) validate() error {
	var v []fault.Violation
	bad := func(pointer, message string) {
		v = append(v, fault.Violation{Pointer: pointer, Code: "invalid", Message: message})
	}
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		bad("/address", "an address is https://host:port and nothing more")
	}
	for pointer, p := range map[string]string{"/mount": o.Mount, "/prefix": o.Prefix, "/auth/mount_path": o.Auth.MountPath} {
		if err := CheckPath(p); err != nil {
			bad(pointer, fault.Message(err))
		}
	}
	need := func(pointer, value string) {
		if value == "" {
			bad(pointer, "is required for this auth method")
		}
	}
	switch o.Auth.Method {
	case AuthAppRole:
		if (o.Auth.RoleID == "") == (o.Auth.RoleIDFile == "") {
			bad("/auth/role_id", "set either role_id or role_id_file")
		}
	case AuthKubernetes:
		need("/auth/role", o.Auth.Role)
	case AuthJWT:
		need("/auth/jwt_file", o.Auth.JWTFile)
	case AuthToken:
		need("/auth/token_file", o.Auth.TokenFile)
	case AuthCallerJWT:
	default:
		bad("/auth/method", "is one of approle, kubernetes, jwt, token")
	}
	if len(v) > 0 {
		return fault.New(fault.InvalidArgument, "the Vault options are not usable").WithViolations(v...)
	}
	return nil
}

// transport dials without a proxy: tokens and secrets go to the configured
// host or nowhere.
func (o *Options) transport() (*http.Transport, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACertFile != "" {
		pem, err := os.ReadFile(o.CACertFile)
		if err != nil {
			return nil, fault.Newf(fault.InvalidArgument, "the CA file %s can't be read", o.CACertFile).WithCause(err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.Newf(fault.InvalidArgument, "the CA file %s holds no PEM certificate", o.CACertFile)
		}
	}
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     cfg,
		TLSHandshakeTimeout: o.Timeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: o.MaxConcurrent,
		IdleConnTimeout:     90 * time.Second,
	}, nil
}

// credential reads a secret file, without the newline that editors leave.
func credential(path string) (secret.Value, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return secret.Value{}, fault.Newf(fault.Unavailable, "the credential file %s can't be read", path).WithCause(err)
	}
	for len(raw) > 0 && (raw[len(raw)-1] == '\n' || raw[len(raw)-1] == '\r' || raw[len(raw)-1] == ' ') {
		raw = raw[:len(raw)-1]
	}
	if len(raw) == 0 {
		return secret.Value{}, fault.Newf(fault.Unavailable, "the credential file %s is empty", path)
	}
	return secret.New(string(raw)), nil
}
