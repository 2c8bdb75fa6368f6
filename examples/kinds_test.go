package examples_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// patience is longer than anything takes on a slow machine; builds have their own.
const patience = time.Minute

// The guide's Go kind, built in its own module as the guide says, and resolved.
func TestTheGoKindOfTheGuide(t *testing.T) {
	t.Parallel()
	sidecar := build(t, "gokind", ".")
	if out := run(t, sidecar, "gokind", nil, "kinds", "syslog"); !strings.Contains(out, "syslog (logging): Syslog collector") {
		t.Errorf("kinds shows\n%s", out)
	}
	got := resolve(t, sidecar, "gokind", "logging", []string{"SYSLOG_TOKEN=canary-token"})
	want := map[string]any{"host": "logs.acme.example", "port": 6514.0, "tls": true, "app_name": "billing", "token": "canary-token"}
	if got.Connector.Kind != "syslog" || got.Connector.Category != "logging" || !reflect.DeepEqual(got.Config, want) {
		t.Errorf("got %+v, want the config %v", got, want)
	}
}

// Its module has tests of its own, which show the suite used from outside.
func TestTheGoKindPassesItsOwnTests(t *testing.T) {
	t.Parallel()
	command(t, "gokind", "go", "test", "./...")
}

// The guide's YAML kind, from its own folder.
func TestTheYAMLKindOfTheGuide(t *testing.T) {
	t.Parallel()
	sidecar := build(t, "..", "./cmd/sidecar")
	declared := "PATCHBAY_PROVIDERS_DECLARED_DIR=."
	if out := run(t, sidecar, "kinds", []string{declared}, "kinds", "ntfy"); !strings.Contains(out, "ntfy (messaging): ntfy") {
		t.Errorf("kinds shows\n%s", out)
	}
	got := resolve(t, sidecar, "kinds", "messaging", []string{declared, "NTFY_TOKEN=canary-token"})
	want := map[string]any{
		"base_url": "https://ntfy.acme.example", "topic": "acme-alerts", "priority": "default", "access_token": "canary-token",
		"publish_url": "https://ntfy.acme.example/acme-alerts",
	}
	if got.Connector.Kind != "ntfy" || !reflect.DeepEqual(got.Config, want) {
		t.Errorf("got %+v, want the config %v", got, want)
	}
}

// What ntfy answers is documented by its own tests
// (https://github.com/binwiederhier/ntfy/blob/main/server/server_test.go).
func TestTheYAMLKindTestsItsConnection(t *testing.T) {
	t.Parallel()
	kinds, problems := httpkind.LoadDir("kinds")
	if len(kinds) != 1 || problems != nil {
		t.Fatal(kinds, problems)
	}
	d, err := egress.New(egress.Config{AnyLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	p := kinds[0].(providers.Binder).Bind(providers.Runtime{DialContext: d.DialContext, Transport: d.Transport()})
	providertest.Run(t, p, providertest.Cases{
		Minimal: providers.Input{Params: map[string]any{"topic": "alerts"}},
		Full: providers.Input{Params: map[string]any{"base_url": "https://ntfy.acme.example", "topic": "alerts", "priority": "high"},
			Secrets: secret.Map{"access_token": secret.New("tk_canary")}},
		Imports: map[string]providertest.Import{
			"nested": {Raw: map[string]any{"ntfy": map[string]any{"topic": "a"}, "auth": map[string]any{"token": "t"}}, Want: map[string]any{"topic": "a", "access_token": "t"}},
		},
	})
	ntfy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch authorization := r.Header.Get("Authorization"); {
		case r.URL.Path == "/v1/health":
			_, _ = io.WriteString(w, `{"healthy":true}`)
		case authorization != "Bearer tk_canary":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"code":40101,"http":401,"error":"unauthorized","link":"https://ntfy.sh/docs/publish/#authentication"}`)
		case r.URL.Path == "/alerts/auth" && r.Method == http.MethodGet:
			_, _ = io.WriteString(w, `{"success":true}`)
		case r.URL.Path == "/alerts" && r.Method == http.MethodPost && r.Header.Get("X-Title") != "":
			_, _ = io.WriteString(w, `{"id":"sPs71M8A2T","event":"message"}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"code":40301,"http":403,"error":"forbidden"}`)
		}
	}))
	t.Cleanup(ntfy.Close)
	for name, tt := range map[string]struct {
		topic, token string
		level        int
		code         providers.TestCode
	}{
		"all is well":       {"alerts", "tk_canary", 3, ""},
		"a wrong token":     {"alerts", "tk_wrong!", 1, providers.CodeAuthFailed},
		"another's topic":   {"others", "tk_canary", 1, providers.CodePermissionDenied},
		"nothing published": {"alerts", "tk_canary", 1, ""},
	} {
		c, err := p.Schema().Decode(providers.Input{
			Params: map[string]any{"base_url": ntfy.URL, "topic": tt.topic}, Secrets: secret.Map{"access_token": secret.New(tt.token)},
		}, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: tt.level})
		if err != nil || r.Code() != tt.code {
			t.Errorf("%s: %v %s", name, err, providertest.Render(r))
		}
		providertest.CheckReport(t, c, r)
	}
}

// inputs makes every source file an input of the test: the go command caches
// results and can't see what the commands below read.
func inputs(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("..", func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A reader has the guide and nothing else: what is made of its files by its
// commands, in an empty folder, works, and is what the examples are.
func TestTheGuideFollowedByCopyAndPaste(t *testing.T) {
	t.Parallel()
	yamlPart, goPart, found := strings.Cut(read(t, "../docs/provider-guide.md"), "\n## A kind in Go\n")
	if !found {
		t.Fatal("the guide has no part for Go")
	}
	t.Run("a kind in YAML", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		files := unpack(t, yamlPart, dir)
		if !slices.Equal(files, []string{"connector.xml", "kinds/ntfy.yaml"}) {
			t.Errorf("the guide has the files %v", files)
		}
		if read(t, filepath.Join(dir, "connector.xml")) != read(t, "kinds/connector.xml") {
			t.Error("connector.xml is not that of the examples")
		}
		sidecar := build(t, "..", "./cmd/sidecar")
		env := []string{"PATCHBAY_PROVIDERS_DECLARED_DIR=kinds", "NTFY_TOKEN=canary-token"}
		got := resolve(t, sidecar, dir, "messaging", env)
		want := map[string]any{"base_url": "https://ntfy.acme.example", "topic": "acme-alerts", "access_token": "canary-token"}
		if !reflect.DeepEqual(got.Config, want) {
			t.Errorf("got %v, want %v", got.Config, want)
		}
	})
	t.Run("a kind in Go", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		files := unpack(t, goPart, dir)
		if !slices.Equal(files, []string{"connector.xml", "go.mod", "main.go", "syslog/schema.go", "syslog/suite_test.go", "syslog/syslog.go"}) {
			t.Errorf("the guide has the files %v", files)
		}
		for _, file := range files {
			if file != "go.mod" && read(t, filepath.Join(dir, file)) != read(t, filepath.Join("gokind", file)) {
				t.Errorf("%s is not that of the example", file)
			}
		}
		// The reader puts a clone's path there. What go mod tidy would look up is in the
		// example's go.sum, so that no test needs a network.
		clone, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		module := strings.Replace(read(t, filepath.Join(dir, "go.mod")), "=> ../..", "=> "+clone, 1)
		write(t, filepath.Join(dir, "go.mod"), module)
		write(t, filepath.Join(dir, "go.sum"), read(t, "gokind/go.sum"))
		command(t, dir, "go", "build", "-mod=mod", "-o", "sidecar", ".")
		command(t, dir, "go", "test", "-mod=mod", "./...")
		got := resolve(t, filepath.Join(dir, "sidecar"), dir, "logging", []string{"SYSLOG_TOKEN=canary-token"})
		if got.Connector.Kind != "syslog" || got.Config["token"] != "canary-token" {
			t.Errorf("got %+v", got)
		}
	})
}

// unpack writes the files that a part of the guide shows into a folder, and lists
// them. A file is a code block under its name: "`syslog/schema.go`:".
func unpack(t *testing.T, part, dir string) (files []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^`([a-z_./]+)`:\n\n```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(part, -1) {
		files = append(files, m[1])
		write(t, filepath.Join(dir, filepath.FromSlash(m[1])), m[2])
	}
	slices.Sort(files)
	return files
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command runs a command of the guide in a folder.
func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	inputs(t)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// build builds a main package from its folder, as its reader would. Where go.mod is
// out of date: go mod tidy there.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sidecar")
	command(t, dir, "go", "build", "-o", file, pkg)
	return file
}

// run runs a command of a sidecar in a folder and returns its output.
func run(t *testing.T, sidecar, dir string, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, sidecar, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sidecar %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// backend is an answer of the local API.
type backend struct {
	Connector struct{ Kind, Category string }
	Config    map[string]any
}

// resolve starts dev in a folder on its connector.xml and asks it over HTTP.
func resolve(t *testing.T, sidecar, dir, category string, env []string) backend {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	address := func() string { return "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t)) }
	local, probes := address(), address()
	env = append(env, "PATCHBAY_LOCAL_LISTEN="+local, "PATCHBAY_ADMIN_LISTEN="+address(), "PATCHBAY_PROBES_LISTEN="+probes)
	log := &output{}
	cmd := exec.CommandContext(t.Context(), sidecar, "dev", "--data-dir", data, "--seed", "connector.xml")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { <-ended }) // the test's context has ended it
	for end := time.Now().Add(patience); ; {
		if code, _ := get(t, "http://"+probes+"/readyz", ""); code == http.StatusOK {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dev ended: %v\n%s", err, log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("dev is not ready\n%s", log)
		}
	}
	token := strings.TrimSpace(run(t, sidecar, dir, env, "token", "--data-dir", data, "--tenant", "acme", "--org", "acme"))
	code, body := get(t, "http://"+local+"/v1/resolve/"+category, token)
	if code != http.StatusOK {
		t.Fatalf("resolve: %d %s\n%s", code, body, log)
	}
	var b backend
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// get calls a URL; 0 when nothing answers.
func get(t *testing.T, url, token string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(b)
}

// output collects what a process prints.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
