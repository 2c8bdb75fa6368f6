package command

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// guard closes what lies in the data dir to others, whatever the umask was and
// whoever copied it here, and returns what whoever starts dev should know about
// the folder itself. A folder that dev made is closed too; one that was there
// before may be shared on purpose, so that is only told. Called with the lock
// held, before anything is opened. The key of the secrets is left as it is:
// package sealed refuses one that others could read.
func guard(dir string, ours bool) []string {
	var warnings []string
	say := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if info, err := os.Lstat(filepath.Clean(dir)); err == nil && info.Mode().Type() == fs.ModeSymlink {
		target, err := filepath.EvalSymlinks(dir)
		if err != nil {
			target = "somewhere else"
		}
		say("the data dir %s is a symbolic link: everything is kept in %s", dir, target)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return warnings // opening the store says it better
	}
	if uid := os.Geteuid(); uid != 0 && owner(info) != uint32(uid) {
		say("the data dir %s belongs to another user, who can read and replace what is in it", dir)
	}
	if perm := info.Mode().Perm(); perm&others != 0 {
		if ours && os.Chmod(dir, info.Mode()&^others) == nil {
			say("the data dir %s was open to others (mode %04o) and is closed now", dir, perm)
		} else {
			say("the data dir %s is open to others (mode %04o); close it with: chmod 700 %s", dir, perm, quoted(dir))
		}
	}
	for _, name := range []string{
		secretsDir, issuerDir, storeFile, storeFile + "-wal", storeFile + "-shm", filepath.Join(issuerDir, devissuer.KeyFile), controlFile, lockFile,
	} {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() && !info.IsDir() || info.Mode().Perm()&others == 0 {
			continue
		}
		if err := os.Chmod(path, info.Mode()&^others); err != nil {
			say("%s is open to others (mode %04o) and cannot be closed: %v", path, info.Mode().Perm(), err)
		} else {
			say("%s was open to others (mode %04o) and is closed now", path, info.Mode().Perm())
		}
	}
	return warnings
}

// others are the rights of everybody but the owner.
const others fs.FileMode = 0o077
