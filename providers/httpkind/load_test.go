package httpkind_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
)

func kind(name string) string { return "kind: " + name + "\ncategory: api\nlabel: K\n" }

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestABadFileStopsNothingElse(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, dir, "a.yaml", kind("a"))
	bad := write(t, dir, "b.yaml", kind("b")+"colour: red\n")
	write(t, dir, "c.yml", kind("c"))
	twice := write(t, dir, "d.yaml", kind("c"))
	builtIn := write(t, dir, "e.yaml", kind("other")+"aliases: [taken]\n")
	category := write(t, dir, "f.yaml", "kind: f\ncategory: email\ncategory_label: Post\nlabel: F\n")
	large := write(t, dir, "g.yaml", strings.Repeat("# a long file\n", 8000))
	write(t, dir, "notes.txt", "not a kind")
	write(t, dir, ".hidden.yaml", "not a kind")
	if err := os.Mkdir(filepath.Join(dir, "h.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "i.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// As Kubernetes mounts them.
	if err := os.Symlink(write(t, elsewhere, "j", kind("j")), filepath.Join(dir, "j.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "gone"), filepath.Join(dir, "k.yaml")); err != nil {
		t.Fatal(err)
	}

	kinds, problems := httpkind.LoadDir(dir, parse(t, kind("taken")))
	var names []string
	for _, k := range kinds {
		names = append(names, string(k.Schema().Kind))
	}
	if got := strings.Join(names, " "); got != "a c j" {
		t.Errorf("got %s", got)
	}
	want := []string{
		bad + ":4:1: colour: unknown key",
		twice + ":1:1: kind: kind or alias \"c\" of \"c\" belongs to \"c\" already",
		builtIn + ":1:1: kind: kind or alias \"taken\" of \"other\" belongs to \"taken\" already",
		category + ":1:1: kind: kind \"f\" gives category \"email\" another label",
		large + ": is larger than 64 KiB",
		filepath.Join(dir, "h.yaml") + ": can't be read: it is no regular file",
		pipe + ": can't be read: it is no regular file",
		filepath.Join(dir, "k.yaml") + ": can't be read: no such file or directory",
	}
	if len(problems) != len(want) {
		t.Fatalf("got %d problems: %v", len(problems), problems)
	}
	for i, p := range problems {
		if !strings.HasPrefix(p.String(), want[i]) {
			t.Errorf("got  %s\nwant %s", p, want[i])
		}
	}
}

func TestAFolderThatIsNone(t *testing.T) {
	t.Parallel()
	kinds, problems := httpkind.LoadDir(filepath.Join(t.TempDir(), "gone"))
	if len(kinds) != 0 || len(problems) != 1 || !strings.Contains(problems[0].String(), "no such file or directory") {
		t.Errorf("%v, %v", kinds, problems)
	}
}

func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 205 {
		write(t, dir, fmt.Sprintf("k%03d.yaml", i), kind(fmt.Sprintf("k%d", i)))
	}
	kinds, problems := httpkind.LoadDir(dir)
	if len(kinds) != 200 || len(problems) != 1 || !strings.Contains(problems[0].Message, "more than 200") {
		t.Errorf("%d kinds, %v", len(kinds), problems)
	}
	if _, err := providers.NewRegistry(kinds...); err != nil {
		t.Error(err)
	}
}
