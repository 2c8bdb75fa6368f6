package sealed

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// leave makes a file of that age.
func leave(t *testing.T, path string, age time.Duration) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	return err == nil
}

func TestSweepRemovesOldLeftoversOnly(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	for name, row := range map[string]struct {
		path string
		age  time.Duration
		kept bool
	}{
		"old":                       {filepath.Join(dir, base, "acme", "c", tmpPrefix+"1"), 2 * tmpAge, false},
		"old, beside the key":       {filepath.Join(dir, tmpPrefix+"1"), 2 * tmpAge, false},
		"young":                     {filepath.Join(dir, base, "acme", "c", tmpPrefix+"2"), tmpAge / 2, true},
		"a bundle":                  {filepath.Join(dir, base, "acme", "c", "pin"), 2 * tmpAge, true},
		"behind a link, of another": {filepath.Join(elsewhere, tmpPrefix+"1"), 2 * tmpAge, true},
	} {
		leave(t, row.path, row.age)
		defer func() {
			if exists(t, row.path) != row.kept {
				t.Errorf("%s: kept is %t, want %t", name, !row.kept, row.kept)
			}
		}()
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, base, "link")); err != nil {
		t.Fatal(err)
	}
	sweepTemp(dir, time.Now())
}

// A folder that becomes a link after the walk saw it leads out of the store:
// what lies there is somebody else's.
func TestSweepIsNotLedOut(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	const place = base + "/acme/" + tmpPrefix + "1"
	foreign := filepath.Join(elsewhere, tmpPrefix+"1")
	leave(t, filepath.Join(dir, filepath.FromSlash(place)), 2*tmpAge)
	leave(t, foreign, 2*tmpAge)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Lstat(place)
	if err != nil {
		t.Fatal(err)
	}
	seen := fs.FileInfoToDirEntry(info)
	folder := filepath.Join(dir, base, "acme")
	if err := os.Rename(folder, folder+"-aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, folder); err != nil {
		t.Fatal(err)
	}
	removeLeftover(root, place, seen, time.Now())
	if !exists(t, foreign) {
		t.Error("a file outside of the store is gone")
	}
	// Without the link it would have been removed.
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"-aside", folder); err != nil {
		t.Fatal(err)
	}
	removeLeftover(root, place, seen, time.Now())
	if exists(t, filepath.Join(folder, tmpPrefix+"1")) {
		t.Error("the leftover is still there")
	}
}
