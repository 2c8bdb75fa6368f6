package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// S3Server is an S3 server that checks signatures, keys and the region. It
// keeps objects as files. Path-style addressing only.
type S3Server struct {
	Port            int
	Endpoint        string // http://host:port
	Region          string
	AccessKeyID     string
	SecretAccessKey string

	private
}

// S3 is the server shared by the tests of this process. Buckets are the tests'
// own to make and to name apart.
func S3(t testing.TB) *S3Server {
	t.Helper()
	return env.s3.get(t, "an S3 server", startS3)
}

func startS3() (*S3Server, error) {
	bin, err := findVersityGateway()
	if err != nil {
		if bin, err = buildVersityGateway(); err != nil {
			return nil, err
		}
	}
	dir, err := newFolder("s3", false)
	if err != nil {
		return nil, err
	}
	objects, users := filepath.Join(dir, "objects"), filepath.Join(dir, "users")
	for _, d := range []string{objects, users} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, fmt.Errorf("make S3 folder: %w", err)
		}
	}
	s := &S3Server{Region: "us-east-1", AccessKeyID: "AKIATESTENV", SecretAccessKey: fmt.Sprintf("secret-%d", time.Now().UnixNano())}
	s.private = private{dir: dir, probe: s.ping}
	for range 5 {
		if s.Port, err = reservePort(); err != nil {
			break
		}
		address := fmt.Sprintf("127.0.0.1:%d", s.Port)
		s.Endpoint = "http://" + address
		s.command = command{bin: bin, dir: dir, end: syscall.SIGTERM,
			args: []string{"--port", address, "--region", s.Region, "--iam-dir", users, "--quiet", "posix", "--sidecar", filepath.Join(dir, "meta"), objects},
			env:  []string{"ROOT_ACCESS_KEY_ID=" + s.AccessKeyID, "ROOT_SECRET_ACCESS_KEY=" + s.SecretAccessKey}}
		if err = os.MkdirAll(filepath.Join(dir, "meta"), 0o700); err != nil {
			break
		}
		if err = s.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *S3Server) ping() error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
