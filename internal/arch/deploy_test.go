package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/patchbay-dev/patchbay/internal/config"
)

// The image's build sees what .dockerignore lets in, and only a machine with
// Docker would notice that a package is missing.
func TestTheImageBuildSeesEveryPackage(t *testing.T) {
	t.Parallel()
	packages(t) // makes every file an input of this test
	raw, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	var let []string
	for line := range strings.Lines(string(raw)) {
		if in, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			let = append(let, strings.TrimSuffix(in, "/*.go"))
		}
	}
	cmd := exec.Command("go", "list", "-deps", module+"cmd/sidecar")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	needed := map[string]bool{}
	for dep := range strings.FieldsSeq(string(out)) {
		if own, ok := strings.CutPrefix(dep, module); ok {
			folder, _, _ := strings.Cut(own, "/")
			needed[folder] = true
		}
	}
	for folder := range needed {
		if !slices.Contains(let, folder) {
			t.Errorf(".dockerignore keeps %s/ out, which cmd/sidecar needs", folder)
		}
	}
}

// compose is what this test reads of a compose file.
type compose struct {
	Services map[string]struct {
		Image   string
		Build   any
		Ports   []string
		Command []string
	}
}

func TestComposeIsOnLoopbackAndPinned(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(raw, &c); err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	for _, service := range []string{"postgres", "redis", "vault", "migrate", "import", "admin", "sidecar"} {
		if _, ok := c.Services[service]; !ok {
			t.Errorf("compose.yaml has no service %s", service)
		}
	}
	for name, s := range c.Services {
		for _, port := range s.Ports {
			// Docker publishes past the host's firewall.
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s on every interface", name, port)
			}
		}
		if s.Build == nil && !regexp.MustCompile(`:\d`).MatchString(s.Image) {
			t.Errorf("%s runs %q, which is no version", name, s.Image)
		}
	}
}

func TestTheConfigOfComposeLoads(t *testing.T) {
	t.Parallel()
	source := "../../deploy/compose"
	dir := t.TempDir()
	files, err := filepath.Glob(source + "/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "/etc/patchbay/", dir+"/")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []config.Mode{config.ModeServe, config.ModeAdmin, config.ModeImport, config.ModeMigrate} {
		environ := []string{"PATCHBAY_CONFIG=" + dir + "/config.yaml", "PATCHBAY_LOCAL_LISTEN=0.0.0.0:7411"}
		_, warnings, err := config.Load(config.Options{Mode: mode, Environ: environ})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", mode, err, warnings)
		}
	}
}

// Every image that a build starts from is named by a version. Distroless has
// none but the Debian release in its name.
func TestDockerfileBasesArePinned(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	bases := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(raw), -1)
	want := []string{"golang:1.26.8-bookworm", "gcr.io/distroless/static-debian12:nonroot"}
	if len(bases) != 2 || bases[0][1] != want[0] || bases[1][1] != want[1] {
		t.Errorf("the Dockerfile starts from %v, reviewed are %v", bases, want)
	}
	for _, line := range []string{"CGO_ENABLED=0", "-trimpath", "USER 65532:65532", `HEALTHCHECK`, `"/sidecar", "healthcheck"`} {
		if !strings.Contains(string(raw), line) {
			t.Errorf("the Dockerfile lacks %s", line)
		}
	}
}
