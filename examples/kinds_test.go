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
	inputs(t)
	cmd := exec.CommandContext(t.Context(), "go", "test", "./...")
	cmd.Dir = "gokind"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
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

// What the guide shows is what is here: a reader copies it.
func TestTheGuideShowsTheExamples(t *testing.T) {
	t.Parallel()
	guide := read(t, "../docs/provider-guide.md")
	kinds := 0
	for _, block := range blocks(guide, "yaml") {
		kinds++
		p, problems := httpkind.Parse("guide.yaml", []byte(block))
		if p == nil {
			t.Error(problems)
		}
	}
	if kinds != 1 {
		t.Errorf("%d kinds in the guide", kinds)
	}
	for _, block := range blocks(guide, "xml") {
		if !strings.Contains(spaceless(read(t, "kinds/connector.xml")), spaceless(block)) {
			t.Errorf("the record is not that of kinds/connector.xml:\n%s", block)
		}
	}
	_, program, _ := strings.Cut(read(t, "gokind/main.go"), "package main")
	if !strings.Contains(guide, "```go\npackage main"+program+"```") {
		t.Error("the program is not gokind/main.go")
	}
}

// blocks are the code blocks of a language.
func blocks(markdown, language string) (found []string) {
	for _, rest := range strings.Split(markdown, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(rest, "\n```")
		found = append(found, block+"\n")
	}
	return found
}

func spaceless(s string) string { return strings.Join(strings.Fields(s), " ") }

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// build builds a main package from its folder, as its reader would.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	inputs(t)
	file := filepath.Join(t.TempDir(), "sidecar")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", file, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build in %s: %v (where go.mod is out of date: go mod tidy there)\n%s", dir, err, out)
	}
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
