package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a Redis of its own port, without persistence unless a test
// asks for it.
type RedisServer struct {
	Port int
	Addr string // host:port

	private
	next atomic.Int64
}

// Redis is the server shared by the tests of this process. Keys are kept apart
// by Prefix; a test that flushes, counts all keys or kills needs NewRedis.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return env.redis.get(t, "Redis", func() (*RedisServer, error) { return startRedis() })
}

// NewRedis is a server for this test alone. args go to redis-server as they
// are, such as "--maxmemory", "10mb".
func NewRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	s, err := startRedis(args...)
	if err != nil {
		refuse(t, "Redis", err)
	}
	t.Cleanup(s.end)
	return s
}

func startRedis(extra ...string) (*RedisServer, error) {
	bin, err := find("redis-server")
	if err != nil {
		return nil, err
	}
	dir, err := newFolder("redis", false)
	if err != nil {
		return nil, err
	}
	s := &RedisServer{}
	s.private = private{dir: dir, probe: s.ping}
	for range 5 {
		if s.Port, err = reservePort(); err != nil {
			break
		}
		s.Addr = fmt.Sprintf("127.0.0.1:%d", s.Port)
		args := []string{"--port", fmt.Sprint(s.Port), "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no"}
		s.command = command{bin: bin, args: append(args, extra...), dir: dir, end: syscall.SIGTERM}
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

// URL is redis://host:port/0.
func (s *RedisServer) URL() string { return "redis://" + s.Addr + "/0" }

// Prefix is a key and channel prefix that no other test gets. Publish and
// subscribe ignore database numbers, so a prefix is what keeps tests apart.
func (s *RedisServer) Prefix(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("t%d-%d:", os.Getpid(), s.next.Add(1))
}

// Command sends one command over a connection of its own and returns the
// reply: nil, string, int64 or []any of those. A Redis error is an error.
func (s *RedisServer) Command(args ...string) (any, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(conn, request.String()); err != nil {
		return nil, err
	}
	return readReply(bufio.NewReader(conn))
}

// readReply reads one reply of the Redis protocol, version 2 (RESP2).
func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("short reply %q", line)
	}
	text := line[1 : len(line)-2]
	switch line[0] {
	case '+':
		return text, nil
	case '-':
		return nil, errors.New(text)
	case ':':
		return strconv.ParseInt(text, 10, 64)
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case '*':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, err
		}
		items := make([]any, n)
		for i := range items {
			if items[i], err = readReply(r); err != nil {
				return nil, err
			}
		}
		return items, nil
	}
	return nil, fmt.Errorf("unknown reply %q", line)
}

func (s *RedisServer) ping() error {
	_, err := s.Command("PING")
	return err
}
