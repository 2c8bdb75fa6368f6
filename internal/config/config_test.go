package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// place copies a testdata file into a folder that holds the files it names.
func place(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "s3cr3t-canary\n", 0o600)
	write(t, filepath.Join(dir, "public.pem"), "public", 0o644)
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(source))
	write(t, path, strings.ReplaceAll(string(data), "$DIR", dir), 0o644)
	return path
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestGood(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/good/*.yaml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range files {
		for _, m := range []Mode{ModeServe, ModeAdmin, ModeImport, ModeMigrate, ModeDev, ModeNone} {
			_, warnings, err := Load(Options{Path: place(t, f), Mode: m})
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s as %q: %v, warnings %v", f, m, err, warnings)
			}
		}
	}
}

// TestFullIsFull: the full example sets every key to something that is not the
// default, so that a key that is declared but not decoded shows.
func TestFullIsFull(t *testing.T) {
	t.Parallel()
	c, _, err := Load(Options{Path: place(t, "testdata/good/full.yaml"), Mode: ModeServe})
	if err != nil {
		t.Fatal(err)
	}
	// Keys that contradict what the example has.
	alternatives := []string{
		"local.socket", "redis.url_file", "vault.auth.role", "vault.auth.role_id_file", "vault.auth.jwt_file", "vault.auth.token_file",
	}
	was := leaves(defaults(ModeServe))
	for i, k := range leaves(c) {
		if same := reflect.DeepEqual(k.value.Interface(), was[i].value.Interface()); same != slices.Contains(alternatives, k.path) {
			t.Errorf("%s: is the default: %v", k.path, same)
		}
	}
	if c.Cache.MaxBytes != 64<<20 || c.Cache.TTL != 30*time.Second || c.JWT.Issuers[1].Issuer != "legacy" {
		t.Errorf("wrong values: %s", c.Redacted())
	}
}

// TestBad compares all problems with the "# want:" lines of each file.
func TestBad(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			t.Parallel()
			path := place(t, f)
			data, _ := os.ReadFile(path)
			var want []string
			for line := range strings.Lines(string(data)) {
				if w, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: "); ok {
					want = append(want, w)
				}
			}
			c, _, err := Load(Options{Path: path})
			if c != nil || !errors.Is(err, fault.InvalidArgument) {
				t.Fatalf("config %v, error %v", c, err)
			}
			got := strings.Split(err.Error(), "\n")
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a message repeats a value")
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	path := place(t, "testdata/good/minimal.yaml")
	dir := filepath.Dir(path)
	c, warnings, err := Load(Options{
		Environ: []string{
			"PATCHBAY_CONFIG=" + path, "PATCHBAY_URL=x", "PATCHBAY_TOKEN=x", "PATCHBAY_TOKEN_FILE=x", "HOME=/",
			"PATCHBAY_LOCAL_LISTEN=127.0.0.1:1", "PATCHBAY_LOCAL_ALLOWED_HOSTS=a, b", "PATCHBAY_CACHE_TTL=20s",
			"PATCHBAY_VAULT_AUTH_METHOD=token", "PATCHBAY_VAULT_AUTH_ROLE=", "PATCHBAY_VAULT_AUTH_TOKEN_FILE=" + dir + "/token",
			`PATCHBAY_CACHE_MAX_STALE_BY_CATEGORY={"email": "2h"}`, "PATCHBAY_EGRESS_ALLOW_LOOPBACK=true",
			`PATCHBAY_JWT_ISSUERS=[{"issuer": "env", "pem_file": "` + dir + `/public.pem", "audiences": ["x"], "algorithms": ["ES256"]}]`,
			"PATCHBAY_SERVICE_HOST=10.0.0.1", "PATCHBAY_LOCAL_LISTN=x", "PATCHBAY_POSTGRES_MAX_CONNS=7",
		},
		Flags: map[string]string{"postgres.max_conns": "8"},
		Mode:  ModeServe,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Local.Listen != "127.0.0.1:1" || !slices.Equal(c.Local.AllowedHosts, []string{"a", "b"}) || c.Cache.TTL != 20*time.Second ||
		c.Cache.MaxStaleByCategory["email"] != 2*time.Hour || c.JWT.Issuers[0].Issuer != "env" || !c.Egress.AllowLoopback.All {
		t.Errorf("environment does not win over the file:\n%s", c.Redacted())
	}
	if c.Postgres.MaxConns != 8 {
		t.Errorf("a flag does not win over the environment: %d", c.Postgres.MaxConns)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	want := []string{
		"PATCHBAY_LOCAL_LISTN: no key has this variable; it is ignored; did you mean PATCHBAY_LOCAL_LISTEN?",
		"PATCHBAY_SERVICE_HOST: no key has this variable; it is ignored",
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings %q", got)
	}
}

func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	_, _, err := Load(Options{Environ: []string{
		"PATCHBAY_CACHE_TTL=soon", "PATCHBAY_JWT_ISSUERS=issuer: x", `PATCHBAY_JWT_ROLES={"a": 1}`, "PATCHBAY_POSTGRES_MAX_CONNS=-1",
		`PATCHBAY_PROVIDERS_ENDPOINTS={"a": "https://a", "a": "https://b"}`, "PATCHBAY_CACHE_MAX_BYTES=1",
	}, Flags: map[string]string{"log.level": "loud"}})
	want := `cache.ttl (PATCHBAY_CACHE_TTL): expected a duration with its unit, such as 500ms, 60s or 1h
jwt.issuers (PATCHBAY_JWT_ISSUERS): expected JSON
jwt.roles.a (PATCHBAY_JWT_ROLES): expected a list
postgres.max_conns (PATCHBAY_POSTGRES_MAX_CONNS): must not be negative
providers.endpoints.a (PATCHBAY_PROVIDERS_ENDPOINTS): the key is given twice
cache.max_bytes (PATCHBAY_CACHE_MAX_BYTES): must be at least 1MiB
log.level (flag): expected one of debug, info, warn, error`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestOverriddenPlace: a problem names who gave the value that counts, not the
// line that it replaced.
func TestOverriddenPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.yaml")
	write(t, path, "egress: {allow: [fine, '*']}\n", 0o600)
	for environ, want := range map[string]string{
		"":                                  "egress.allow[1] (x.yaml:1:24): wildcards are not supported; list the names, or the prefix that they lead to",
		"PATCHBAY_EGRESS_ALLOW=fine,also,/": "egress.allow[2] (PATCHBAY_EGRESS_ALLOW): expected a prefix, such as 10.20.0.0/16 or fd00::/8",
		"PATCHBAY_EGRESS_ALLOW=fine,/":      "egress.allow[1] (PATCHBAY_EGRESS_ALLOW): expected a prefix, such as 10.20.0.0/16 or fd00::/8",
	} {
		if _, _, err := Load(Options{Path: path, Environ: []string{environ}}); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", environ, err, want)
		}
	}
}

// TestColonsInLists: host:port without quotes is text wherever a list stands.
func TestColonsInLists(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"egress: {allow: [10.20.0.0/16, mail.corp.example:587]}": {"10.20.0.0/16", "mail.corp.example:587"},
		"egress: {allow: [10.20.0.1:587, a.b:1]}":                {"10.20.0.1:587", "a.b:1"},
		"egress: {allow: ['::1', \"a:1\", a:2]}":                 {"::1", "a:1", "a:2"},
		"egress:\n  allow: [a:1, b]":                             {"a:1", "b"},
		"egress:\n  allow:\n    - a:1\n    - b:2":                {"a:1", "b:2"},
		"egress: {allow: [a: 1]}":                                nil,
		"egress: {allow: [{a:1}]}":                               nil,
		"egress: {allow: ['a':1]}":                               nil,
	} {
		path := filepath.Join(t.TempDir(), "x.yaml")
		write(t, path, text, 0o600)
		c, _, err := Load(Options{Path: path})
		if want == nil {
			if err == nil {
				t.Errorf("%s: read as %q", text, c.Egress.Allow)
			}
			continue
		}
		if err != nil || !slices.Equal(c.Egress.Allow, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestVariablesAreDistinct: two keys with one variable could not both be set.
func TestVariablesAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, k := range leaves(defaults(ModeServe)) {
		v := variable(k.path)
		if other := seen[v]; other != "" || slices.Contains(outside, v) {
			t.Errorf("%s and %s share %s", k.path, other, v)
		}
		seen[v] = k.path
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	for m, want := range map[Mode]string{
		ModeServe:   "jwt.issuers postgres.url_file vault.address vault.auth.method",
		ModeAdmin:   "jwt.issuers postgres.url_file vault.address vault.auth.method",
		ModeImport:  "postgres.url_file vault.address vault.auth.method",
		ModeMigrate: "postgres.url_file",
		ModeDev:     "",
		ModeNone:    "",
	} {
		_, _, err := Load(Options{Mode: m})
		var got []string
		if e, ok := errors.AsType[*Error](err); ok {
			for _, p := range e.Problems {
				got = append(got, p.Path)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: missing %v, want %s", m, got, want)
		}
	}
}

// TestFilesOfOtherCommands: one config file serves all commands, and each has
// only the files that it opens.
func TestFilesOfOtherCommands(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.yaml")
	write(t, path, `
local: {token_file: /absent}
jwt: {issuers: [{issuer: x, pem_file: /absent, audiences: [a], algorithms: [ES256]}]}
postgres: {url_file: /absent}
redis: {url_file: /absent}
vault: {address: "https://v:8200", auth: {method: token, token_file: /absent}}
providers: {declared_dir: /absent}
admin: {public_url: "https://c.example.com"}
login: {issuer: "https://id", client_id: ui, client_secret_file: /absent}
`, 0o600)
	for m, want := range map[Mode]string{
		ModeServe:   "local.token_file jwt.issuers[0].pem_file postgres.url_file redis.url_file vault.auth.token_file providers.declared_dir",
		ModeAdmin:   "jwt.issuers[0].pem_file postgres.url_file redis.url_file vault.auth.token_file providers.declared_dir login.client_secret_file",
		ModeImport:  "postgres.url_file redis.url_file vault.auth.token_file providers.declared_dir",
		ModeMigrate: "postgres.url_file",
		ModeDev:     "local.token_file jwt.issuers[0].pem_file providers.declared_dir login.client_secret_file",
		ModeNone:    "local.token_file jwt.issuers[0].pem_file postgres.url_file redis.url_file vault.auth.token_file providers.declared_dir login.client_secret_file",
	} {
		_, _, err := Load(Options{Path: path, Mode: m})
		var got []string
		if e, ok := errors.AsType[*Error](err); ok {
			for _, p := range e.Problems {
				got = append(got, p.Path)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q checks %v, want %s", m, got, want)
		}
	}
}

func TestMissingConfigFile(t *testing.T) {
	t.Parallel()
	_, _, err := Load(Options{Path: "/nonexistent/patchbay.yaml", Mode: ModeServe})
	if err == nil || err.Error() != "/nonexistent/patchbay.yaml: the config file does not exist" {
		t.Errorf("%v", err)
	}
}

func TestDevListensOnLoopback(t *testing.T) {
	t.Parallel()
	c, _, err := Load(Options{Mode: ModeDev})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{c.Local.Listen, c.Admin.Listen, c.Probes.Listen} {
		if !strings.HasPrefix(l, "127.0.0.1:") {
			t.Errorf("listens on %s", l)
		}
	}
}

func TestWorldReadable(t *testing.T) {
	t.Parallel()
	path := place(t, "testdata/good/minimal.yaml")
	token := filepath.Join(filepath.Dir(path), "token")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings, err := Load(Options{Path: path, Mode: ModeServe})
	if err != nil || len(warnings) != 1 || warnings[0].Path != "postgres.url_file" || !strings.Contains(warnings[0].Message, "world-readable") {
		t.Errorf("warnings %v, error %v", warnings, err)
	}
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "full"), "va lue\n\n", 0o600)
	write(t, filepath.Join(dir, "empty"), "\n", 0o600)
	v, err := ReadSecret("x.token_file", filepath.Join(dir, "full"))
	if err != nil || v.Reveal() != "va lue\n" {
		t.Errorf("one final newline is cut, no more: %v", err)
	}
	for name, want := range map[string]string{
		"empty":  "x.token_file: the file " + dir + "/empty is empty",
		"absent": "x.token_file: the file " + dir + "/absent does not exist",
		".":      "x.token_file: " + dir + " is a folder, not a file",
	} {
		if _, err := ReadSecret("x.token_file", filepath.Join(dir, name)); fault.Message(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRedisURL: what a client connects with, from either spelling.
func TestRedisURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "url"), "rediss://u:p@r:1/2\n", 0o600)
	write(t, filepath.Join(dir, "password"), "p@ss/w:rd\n", 0o600)
	for _, row := range []struct {
		redis Redis
		want  string
	}{
		{Redis{}, ""},
		{Redis{URLFile: dir + "/url"}, "rediss://u:p@r:1/2"},
		{Redis{Addrs: []string{"a:1", "b:2"}}, "redis://a:1"},
		{Redis{Addrs: []string{"a:1"}, TLS: true, Username: "u"}, "rediss://u@a:1"},
		{Redis{Addrs: []string{"[::1]:1"}, PasswordFile: dir + "/password"}, "redis://:p%40ss%2Fw%3Ard@[::1]:1"},
	} {
		got, err := row.redis.URL()
		if err != nil || got.IsSet() && got.Reveal() != row.want || !got.IsSet() && row.want != "" {
			t.Errorf("%+v: %v, want %s: %v", row.redis, got.IsSet(), row.want, err)
		}
	}
	if _, err := (Redis{Addrs: []string{"a:1"}, PasswordFile: dir + "/absent"}).URL(); fault.CodeOf(err) != fault.InvalidArgument {
		t.Errorf("an absent password: %v", err)
	}
	for name, want := range map[string]string{
		"": "", dir + "/password": "holds no PEM certificate", dir + "/absent": "does not exist",
	} {
		if pool, err := ReadCAs("redis.ca_file", name); want == "" && (err != nil || pool != nil) || want != "" && !strings.Contains(fault.Message(err), want) {
			t.Errorf("CA file %q: %v", name, err)
		}
	}
}

// TestRedacted: the dump has every key and none of the planted values.
func TestRedacted(t *testing.T) {
	t.Parallel()
	c, _, err := Load(Options{
		Path: place(t, "testdata/good/full.yaml"), Mode: ModeServe,
		Environ: []string{"PATCHBAY_VAULT_AUTH_ROLE_ID=canary-role"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Vault.Address = "https://user:canary-url@vault:8200"
	c.JWT.Issuers[0].JWKSURL = "https://id.example.com/jwks.json?key=canary-query&canary-flag"
	text := c.Redacted()
	if strings.Contains(text, "canary") {
		t.Errorf("a secret is in the dump:\n%s", text)
	}
	if n := strings.Count(text, "[redacted]"); n != 1 {
		t.Errorf("%d redactions", n)
	}
	path := filepath.Join(t.TempDir(), "dump.yaml")
	write(t, path, text, 0o600)
	again, _, err := Load(Options{Path: path, Mode: ModeServe})
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 1 || e.Problems[0].Path != "vault.address" {
		t.Errorf("the dump is not a config with every key: %v %v", again, err)
	}
}

func FuzzDocument(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, name := range files {
		data, _ := os.ReadFile(name)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &loader{c: defaults(ModeServe), at: map[string]string{}}
		d := decoder{l: l, file: "x.yaml"}
		if !d.document(data) && len(l.problems) == 0 {
			t.Error("refused without a problem")
		}
	})
}
