package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// maxSecret bounds a credential file; the largest real one is a PEM bundle.
const maxSecret = 1 << 20

// ReadSecret reads the credential file that key (a dotted path, for messages)
// names. One final newline is not part of the value.
// Errors: fault.InvalidArgument naming key and path, never content.
func ReadSecret(key, path string) (secret.Value, error) {
	if problem := checkFile(path, "secret"); problem != "" {
		return secret.Value{}, fault.Newf(fault.InvalidArgument, "%s: %s", key, problem)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return secret.Value{}, fault.Newf(fault.InvalidArgument, "%s: the file %s can't be read", key, path).WithCause(err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return secret.Value{}, fault.Newf(fault.InvalidArgument, "%s: the file %s is empty", key, path)
	}
	return secret.New(text), nil
}

// URL is what a Redis client connects with, credentials included: the content of
// url_file, or a URL made of addrs (the first; the client gets the list beside
// it), username, password_file and tls. It is unset where no Redis is configured.
// Errors: fault.InvalidArgument naming key and path, never content.
func (r Redis) URL() (secret.Value, error) {
	if r.URLFile != "" {
		return ReadSecret("redis.url_file", r.URLFile)
	}
	if len(r.Addrs) == 0 {
		return secret.Value{}, nil
	}
	u := url.URL{Scheme: "redis", Host: r.Addrs[0]}
	if r.TLS {
		u.Scheme = "rediss"
	}
	if r.PasswordFile != "" {
		password, err := ReadSecret("redis.password_file", r.PasswordFile)
		if err != nil {
			return secret.Value{}, err
		}
		u.User = url.UserPassword(r.Username, password.Reveal())
	} else if r.Username != "" {
		u.User = url.User(r.Username)
	}
	return secret.New(u.String()), nil
}

// ReadCAs reads a file of PEM certificates that key names; nil for no path, which
// stands for the system's roots.
// Errors: fault.InvalidArgument naming key and path.
func ReadCAs(key, path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	if problem := checkFile(path, "public"); problem != "" {
		return nil, fault.Newf(fault.InvalidArgument, "%s: %s", key, problem)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Newf(fault.InvalidArgument, "%s: the file %s can't be read", key, path).WithCause(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fault.Newf(fault.InvalidArgument, "%s: the file %s holds no PEM certificate", key, path)
	}
	return pool, nil
}

// checkFile returns what is wrong with a file, or "".
func checkFile(path, kind string) string {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && kind == "dir":
		return "the folder " + path + " does not exist"
	case errors.Is(err, fs.ErrNotExist):
		return "the file " + path + " does not exist"
	case err != nil:
		return "the file " + path + " can't be read"
	case kind == "dir" && !st.IsDir():
		return path + " is not a folder"
	case kind != "dir" && st.IsDir():
		return path + " is a folder, not a file"
	case kind != "dir" && st.Size() > maxSecret:
		return "the file " + path + " is larger than 1 MiB"
	}
	return ""
}

// worldReadable tells whether everybody on the machine can read the file.
func worldReadable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().Perm()&0o004 != 0
}

// files checks every file that the config names and the mode opens.
func (l *loader) files(m Mode) {
	sections, limited := reads[m]
	eachFile("", reflect.ValueOf(l.c).Elem(), func(key, path, kind string) {
		section, _, _ := strings.Cut(key, ".")
		if limited && !slices.Contains(sections, section) {
			return
		}
		if message := checkFile(path, kind); message != "" {
			l.problem(key, l.place(key), message)
			return
		}
		if kind == "secret" && worldReadable(path) {
			l.warnings = append(l.warnings, Warning{
				Path: key, At: l.place(key), Message: "the file " + path + " is world-readable; chmod it to 0600 (0440 for a group)",
			})
		}
	})
}

// eachFile visits every set path, list items included.
func eachFile(path string, v reflect.Value, visit func(key, path, kind string)) {
	t := v.Type()
	for i := range t.NumField() {
		f, field := t.Field(i), v.Field(i)
		key := join(path, f.Tag.Get("yaml"))
		switch {
		case isSection(f.Type):
			eachFile(key, field, visit)
		case f.Type.Kind() == reflect.Slice && isSection(f.Type.Elem()):
			for j := range field.Len() {
				eachFile(fmt.Sprintf("%s[%d]", key, j), field.Index(j), visit)
			}
		case f.Tag.Get("file") != "" && field.String() != "":
			visit(key, field.String(), f.Tag.Get("file"))
		}
	}
}
