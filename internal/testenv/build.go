package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// buildVault makes the Vault server of vaultserver/ and returns its path. The
// first build takes minutes; its result stays in the cache folder until a source or
// the Go version changes.
func buildVault() (string, error) {
	source, name, err := vaultProgram()
	if err != nil {
		return "", err
	}
	// No -trimpath: with it, nothing of an ordinary build cache could be used.
	return buildOnce(name, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, ".")
		cmd.Dir = source
		return cmd
	})
}

// builtVault is what buildVault left.
func builtVault() (string, error) {
	_, name, err := vaultProgram()
	if err != nil {
		return "", err
	}
	return built(name)
}

// vaultProgram is the folder of the source, and the name in the cache that
// stands for this very source and Go version.
func vaultProgram() (source, name string, err error) {
	if source, err = vaultSource(); err != nil {
		return "", "", err
	}
	digest := sha256.New()
	digest.Write([]byte(runtime.Version()))
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", "", fmt.Errorf("read vault server source: %w", err)
		}
		fmt.Fprintf(digest, "%s %d\n", name, len(b))
		digest.Write(b)
	}
	return source, "vaultserver-" + hex.EncodeToString(digest.Sum(nil))[:16], nil
}

// built looks a program up in the cache folder.
func built(name string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name)
	if !executable(path) {
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	}
	return path, nil
}

// buildVersityGateway makes the S3 server, whose errors are those of the real
// one: a wrong signature, key or region is refused as such.
func buildVersityGateway() (string, error) {
	return buildOnce(versityProgram, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "install", "github.com/versity/versitygw/cmd/versitygw@"+versityVersion)
		cmd.Env = append(os.Environ(), "GOBIN="+filepath.Dir(out))
		return cmd
	})
}

// findVersityGateway prefers an installed one.
func findVersityGateway() (string, error) {
	if path, err := find("versitygw"); err == nil {
		return path, nil
	}
	return built(versityProgram)
}

const (
	versityVersion = "v1.8.0"
	versityProgram = "versitygw-" + versityVersion
)

// buildMailpit makes the mail server.
func buildMailpit() (string, error) {
	return buildOnce(mailpitProgram, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "install", "github.com/axllent/mailpit@"+mailpitVersion)
		cmd.Env = append(os.Environ(), "GOBIN="+filepath.Dir(out))
		return cmd
	})
}

// findMailpit prefers an installed one.
func findMailpit() (string, error) {
	if path, err := find("mailpit"); err == nil {
		return path, nil
	}
	return built(mailpitProgram)
}

const (
	mailpitVersion = "v1.27.11"
	mailpitProgram = "mailpit-" + mailpitVersion
)

// buildOnce returns the program of that name in the cache folder and builds it
// when it isn't there. Test processes run side by side: one builds, the others
// wait at the lock. command writes a program into the folder of out.
func buildOnce(name string, command func(out string) *exec.Cmd) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name)
	if executable(path) {
		return path, nil
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("open build lock: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("take build lock: %w", err)
	}
	if executable(path) {
		return path, nil
	}
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", fmt.Errorf("make build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	program, _, _ := strings.Cut(name, "-")
	cmd := command(filepath.Join(dir, program))
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	// The flags of the test run (-race, -mod, a workspace) aren't meant for a
	// module that isn't ours.
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	// Renamed at the end: a build that was killed leaves no half program.
	if err := os.Rename(filepath.Join(dir, program), path); err != nil {
		return "", fmt.Errorf("keep %s: %w", program, err)
	}
	return path, nil
}

// vaultSource finds vaultserver/ from the working folder, which for a test is
// its package's.
func vaultSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working folder: %w", err)
	}
	for {
		source := filepath.Join(dir, "internal", "testenv", "vaultserver")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("vault server source not found: run inside the clone")
		}
		dir = parent
	}
}
