package command

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// names are all commands of DESIGN 3.1 that this build has.
var names = []string{
	"dev", "serve", "admin", "migrate", "import", "export", "resolve", "token", "kinds", "check", "healthcheck", "version",
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	root := command(t, nil, "--help").ok(t)
	if none := command(t, nil).ok(t); none.out != root.out {
		t.Errorf("no words say something else than --help:\n%s", none.out)
	}
	for _, name := range append(names, "completion") {
		if !regexp.MustCompile(`(?m)^  ` + name + ` +\S`).MatchString(root.out) {
			t.Errorf("--help does not list %s:\n%s", name, root.out)
		}
		if o := command(t, nil, name, "--help").ok(t); !strings.Contains(o.out, "sidecar "+name) || o.err != "" {
			t.Errorf("%s --help:\n%s%s", name, o.out, o.err)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := command(t, nil, "completion", shell).ok(t); !strings.Contains(o.out, "sidecar") {
			t.Errorf("completion %s: %s", shell, o.out)
		}
	}
}

func TestWrongWords(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"nonsense"}, {"srve"}, {"--nonsense"}, {"dev", "--nonsense"}, {"dev", "extra"}, {"serve", "extra"}, {"import"}, {"export", "extra"},
		{"export", "--data-dir", ".", "--format", "csv"}, {"token"}, {"token", "--tenant", "acme", "--ttl", "soon"}, {"resolve"},
		{"resolve", "storage", "email"}, {"kinds", "nonsense"}, {"kinds", "s3", "smtp"}, {"version", "extra"}, {"healthcheck", "--url", "nonsense"},
		{"healthcheck", "--url", "unix:///run/s"}, {"completion", "nonsense"},
	} {
		o := command(t, nil, args...)
		if strings.Count(o.err, "see `") > 1 {
			t.Errorf("%v: more than one hint: %s", args, o.err)
		}
		if o.code != exitUsage || o.out != "" || strings.Count(o.err, "\n") != 1 || !strings.HasPrefix(o.err, "sidecar: ") {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, o.code, o.out, o.err)
		}
	}
}

func TestWrongWordsGetAHint(t *testing.T) {
	t.Parallel()
	command(t, nil, "srve").fails(t, exitUsage, "Did you mean this? serve")
	command(t, nil, "dev", "--nonsense").fails(t, exitUsage, "see `sidecar dev --help`")
	command(t, nil, "import").fails(t, exitUsage, "see `sidecar --help`")
	for _, args := range [][]string{{"token", "--ttl", "xx"}, {"token", "--nope"}, {"token", "-x"}, {"token", "--ttl"}} {
		if o := command(t, nil, args...).fails(t, exitUsage); !strings.HasSuffix(o.err, "; see `sidecar token --help`\n") {
			t.Errorf("%v: %s", args, o.err)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if o := command(t, nil, "version").ok(t); !regexp.MustCompile(`^sidecar \S+ \(revision \S+, go1\.\S+, \w+/\w+\)\n$`).MatchString(o.out) {
		t.Errorf("%q", o.out)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	var list []map[string]any
	if err := json.Unmarshal([]byte(command(t, nil, "kinds", "--json").ok(t).out), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, k := range list {
		for _, key := range []string{"kind", "category", "label"} {
			if text, _ := k[key].(string); text == "" {
				t.Errorf("%v lacks %s", k["kind"], key)
			}
		}
		if params, _ := k["params"].([]any); len(params) == 0 {
			t.Errorf("%v has no params", k["kind"])
		}
		seen[k["kind"].(string)] = k["category"].(string)
	}
	if seen["s3"] != "storage" || seen["smtp"] != "email" {
		t.Errorf("%v", seen)
	}

	var one struct {
		Kind   string
		Params []struct {
			Name             string
			Required, Secret bool
		}
		Schema map[string]any `json:"json_schema"`
	}
	if err := json.Unmarshal([]byte(command(t, nil, "kinds", "aws_s3", "--json").ok(t).out), &one); err != nil {
		t.Fatal(err)
	}
	if one.Kind != "s3" || one.Schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" || one.Schema["x-patchbay-kind"] != "s3" {
		t.Errorf("%+v", one)
	}
	needs := map[string]bool{}
	for _, p := range one.Params {
		needs[p.Name] = p.Required && p.Secret == (p.Name != "bucket")
	}
	for _, name := range []string{"bucket", "access_key_id", "secret_access_key"} {
		if !needs[name] {
			t.Errorf("%s is not as the contract says: %+v", name, one.Params)
		}
	}

	if o := command(t, nil, "kinds", "s33"); !strings.Contains(o.err, "did you mean s3?") {
		t.Error(o.err)
	}
	text := command(t, nil, "kinds", "s3").ok(t).out
	for _, want := range []string{"s3 (storage)", "bucket", "secret_access_key"} {
		if !strings.Contains(text, want) {
			t.Errorf("kinds s3 lacks %q:\n%s", want, text)
		}
	}
	if text := command(t, nil, "kinds").ok(t).out; !strings.Contains(text, "s3") || !strings.Contains(text, "smtp") {
		t.Errorf("kinds:\n%s", text)
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(t.TempDir(), "config.yaml"), "probes: {listen: '0.0.0.0:"+port+"'}\n")
	ways := map[string]struct{ env, args []string }{
		"variable":        {[]string{"PATCHBAY_PROBES_LISTEN=" + address}, nil},
		"every interface": {[]string{"PATCHBAY_PROBES_LISTEN=:" + port}, nil},
		"file":            {nil, []string{"--config", file}},
		"file by env":     {[]string{"PATCHBAY_CONFIG=" + file}, nil},
		"flag":            {nil, []string{"--url", server.URL + "/readyz"}},
	}
	for _, is := range []bool{true, false} {
		ready = is
		for name, way := range ways {
			o := command(t, way.env, append([]string{"healthcheck"}, way.args...)...)
			if (o.code == exitDone) != is || o.out != "" || is && o.err != "" || !is && !strings.Contains(o.err, "503") {
				t.Errorf("%s, ready %v: exit %d %q %q", name, is, o.code, o.out, o.err)
			}
		}
	}
	server.Close()
	command(t, []string{"PATCHBAY_PROBES_LISTEN=" + address}, "healthcheck").fails(t, exitFailed, address, "is the sidecar running?")
	bad := write(t, filepath.Join(t.TempDir(), "bad.yaml"), "probe: {}\n")
	command(t, nil, "healthcheck", "--config", bad).fails(t, exitUsage, "probe", "bad.yaml:1")
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, []string{"PATCHBAY_SERVICE_HOST=10.0.0.1", "PATCHBAY_LOCAL_LISTNE=x"})
	for _, want := range []string{"warning: PATCHBAY_SERVICE_HOST: ", "PATCHBAY_LOCAL_LISTNE: ", "did you mean PATCHBAY_LOCAL_LISTEN?"} {
		if !strings.Contains(d.err.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, d.err.String())
		}
	}
}

func TestConfigProblemsAreAllTold(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "config.yaml"), `local: {listen: "0.0.0.0:7411", deadline: soon}
cache: {tll: 60s}
postgres: {url_file: /nowhere/url}
`)
	for _, name := range []string{"check", "serve"} {
		o := command(t, nil, name, "--config", file).fails(t, exitUsage,
			"local.deadline (config.yaml:1:", "cache.tll (config.yaml:2:", "postgres.url_file", "/nowhere/url", "vault.address", "jwt.issuers")
		for line := range strings.Lines(o.err) {
			if !strings.HasPrefix(line, "sidecar: ") {
				t.Errorf("a line of its own: %q", line)
			}
		}
	}
	command(t, nil, "serve", "--config", "/nowhere.yaml").fails(t, exitUsage, "/nowhere.yaml", "does not exist")
	command(t, nil, "import", file).fails(t, exitUsage, "--data-dir")
}

// A flag wins over the environment, which wins over the file.
func TestWhoWinsOverWhom(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	good, closed := strings.TrimPrefix(server.URL, "http://"), freeAddress(t)
	file := func(address string) string {
		return write(t, filepath.Join(t.TempDir(), "config.yaml"), "probes: {listen: '"+address+"'}\n")
	}
	env := func(address string) []string { return []string{"PATCHBAY_PROBES_LISTEN=" + address} }
	command(t, nil, "healthcheck", "--config", file(good)).ok(t)
	command(t, env(good), "healthcheck", "--config", file(closed)).ok(t)
	command(t, env(closed), "healthcheck", "--config", file(closed), "--set", "probes.listen="+good).ok(t)
	command(t, env(good), "healthcheck", "--config", file(good), "--set", "probes.listen="+closed).fails(t, exitFailed, closed)
	command(t, nil, "healthcheck", "--set", "probes.listen").fails(t, exitUsage, "KEY=VALUE")
	command(t, nil, "healthcheck", "--set", "probes.lisen=x").fails(t, exitUsage, "probes.lisen")
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		".patchbay": ".patchbay", "/srv/a-b_c.d": "/srv/a-b_c.d", "my data": "'my data'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
	} {
		if got := quoted(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// The question's own time is not skew.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, row := range map[string]struct{ at, after, want time.Duration }{
		"between":   {2 * time.Second, 4 * time.Second, 0},
		"behind":    {-3 * time.Second, time.Second, 3 * time.Second},
		"ahead":     {6 * time.Second, 4 * time.Second, 2 * time.Second},
		"identical": {0, 0, 0},
	} {
		if got := clockSkew(start, start.Add(row.at), start.Add(row.after)); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
}

func TestCallable(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		":7412": "127.0.0.1:7412", "0.0.0.0:7412": "127.0.0.1:7412", "[::]:7412": "127.0.0.1:7412", "[::ffff:0.0.0.0]:1": "[::ffff:0.0.0.0]:1",
		"127.0.0.1:1": "127.0.0.1:1", "[::1]:1": "[::1]:1", "192.0.2.1:1": "192.0.2.1:1", "host:1": "host:1", "nonsense": "nonsense",
	} {
		if got := callable(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// The effective config comes before the checks, whatever they say, and tells no
// secret.
func TestCheckPrintsTheConfigInEffect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closed := freeAddress(t)
	write(t, filepath.Join(dir, "url"), "postgres://app:canary-postgres@"+closed+"/x\n")
	write(t, filepath.Join(dir, "redis"), "redis://app:canary-redis@"+closed+"\n")
	write(t, filepath.Join(dir, "id"), "canary-secret-id\n")
	write(t, filepath.Join(dir, "local"), "canary-local-token\n")
	file := write(t, filepath.Join(dir, "config.yaml"), `
local: {token_file: `+dir+`/local}
jwt: {issuers: [{issuer: here, jwks_url: "http://`+closed+`/keys?key=canary-query", audiences: [a], algorithms: [ES256]}]}
postgres: {url_file: `+dir+`/url}
redis: {url_file: `+dir+`/redis}
vault: {address: "http://`+closed+`", auth: {method: approle, secret_id_file: `+dir+`/id}}
`)
	env := []string{"PATCHBAY_VAULT_AUTH_ROLE_ID=canary-role-id", "PATCHBAY_CACHE_TTL=42s"}
	o := command(t, env, "check", "--print", "--config", file, "--set", "drain=7s").fails(t, exitFailed, "not all is well")
	printed, checks, ok := strings.Cut(o.out, "\n\n")
	if !ok || !strings.HasPrefix(checks, "config ") {
		t.Fatalf("no config, and then the checks:\n%s", o.out)
	}
	for _, want := range []string{
		"  ttl: 42s\n", "drain: 7s\n", `  url_file: "` + dir + `/url"`, `role_id: "[redacted]"`, "/keys?redacted", "  max_conns: 4\n",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("the config lacks %q:\n%s", want, printed)
		}
	}
	// The check's own line of an issuer that cannot be reached says with which URL.
	if strings.Contains(printed+strings.ReplaceAll(checks+o.err, "canary-query", ""), "canary") {
		t.Errorf("a secret is told:\n%s%s", o.out, o.err)
	}
	// It is a config: all that it lacks is what was left out of it.
	again := write(t, filepath.Join(dir, "again.yaml"), printed+"\n")
	if o := command(t, nil, "check", "--print", "--config", again); o.code != exitFailed || !strings.HasPrefix(o.out, printed+"\n\n") {
		t.Errorf("the printed config is not one:\n%s%s", o.out, o.err)
	}
	if o := command(t, env, "check", "--config", file); strings.Contains(o.out, "ttl") {
		t.Errorf("printed unasked:\n%s", o.out)
	}
}
