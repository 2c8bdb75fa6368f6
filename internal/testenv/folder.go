package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const folderPrefix = "patchbay-testenv-"

// newFolder makes a private folder for a server's data. It isn't the test's
// TempDir: the parent of that can't be entered by the user a server is demoted
// to. The name carries our process id, so that a later run can tell what was
// left behind by a process that died.
func newFolder(what string, demoted bool) (string, error) {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-%s-", folderPrefix, os.Getpid(), what))
	if err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	if cred := demotion(); demoted && cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", fmt.Errorf("hand data folder over: %w", err)
		}
	}
	return dir, nil
}

// sweep removes the folders of test processes that are no more.
func sweep() {
	names, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	for _, name := range names {
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), folderPrefix), "-")
		pid, err := strconv.Atoi(digits)
		if err != nil || pid <= 0 || pid == os.Getpid() {
			continue
		}
		// EPERM means alive and someone else's; only ESRCH means gone.
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.RemoveAll(name)
		}
	}
}
