package command

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/config"
)

// A declared kind shows as any other, and a bad file is told with its line and
// stops nothing.
func TestDeclaredKinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pigeon.yaml"), "kind: pigeon\ncategory: messaging\nlabel: Pigeon\nparams:\n  - {name: loft, type: string, required: true}\n")
	bad := write(t, filepath.Join(dir, "broken.yaml"), "kind: broken\ncategory: messaging\nlable: Broken\n")
	taken := write(t, filepath.Join(dir, "smtp.yaml"), "kind: smtp\ncategory: email\nlabel: Ours\n")
	env := []string{"PATCHBAY_PROVIDERS_DECLARED_DIR=" + dir}

	r := command(t, env, "kinds")
	r.ok(t)
	if !strings.Contains(r.out, "pigeon") || !strings.Contains(r.out, "smtp") || strings.Contains(r.out, "broken") {
		t.Errorf("the list is\n%s", r.out)
	}
	for _, want := range []string{
		"sidecar: warning: " + bad + ":3:1: lable: unknown key; did you mean label?",
		"sidecar: warning: " + taken + ":1:1: kind: kind or alias \"smtp\" of \"smtp\" belongs to \"smtp\" already",
	} {
		if !strings.Contains(r.err, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.err)
		}
	}
	r = command(t, env, "kinds", "pigeon")
	r.ok(t)
	if !strings.Contains(r.out, "pigeon (messaging): Pigeon") || !strings.Contains(r.out, "loft") {
		t.Errorf("the kind is\n%s", r.out)
	}

	cfg := &config.Config{}
	if err := checkKinds(cfg); err != nil {
		t.Errorf("check without a folder: %v", err)
	}
	cfg.Providers.DeclaredDir = dir
	if err := checkKinds(cfg); err == nil || !strings.Contains(err.Error(), bad+":3:1") || !strings.Contains(err.Error(), taken) {
		t.Errorf("check says %v", err)
	}
}
