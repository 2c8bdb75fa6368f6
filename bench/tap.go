package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// exchange is one thing that a client said and waits for an answer to.
type exchange struct {
	server string // postgres, redis, vault
	what   string // the statements, the command, the method and path
}

// wire collects exchanges in the order in which they reached the servers.
type wire struct {
	mu  sync.Mutex
	all []exchange
	// notices are texts that Postgres sent beside its answers.
	notices []string
}

func (w *wire) add(server, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, exchange{server, what})
}

// take returns what was collected since the last call.
func (w *wire) take() []exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

func (w *wire) takeNotices() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.notices
	w.notices = nil
	return all
}

// tap puts a proxy before a server and returns the proxy's host:port. up and
// down copy one connection's two directions until it ends.
func (h *host) tap(target string, up, down func(from io.Reader, to io.Writer)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	h.Cleanup(func() { _ = l.Close() }) // ends the loop below
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close() // the client sees it as an outage, and says so
				continue
			}
			go func() { down(server, client); _ = client.Close() }() // one side ended: so does the other
			go func() { up(client, server); _ = server.Close() }()   // ditto
		}
	}()
	return l.Addr().String()
}

func plain(from io.Reader, to io.Writer) { _, _ = io.Copy(to, from) } // until either side ends

// postgresMessages reads messages (PostgreSQL, Frontend/Backend Protocol) and
// passes each on after f has seen it. startup: the first one has no type byte.
func postgresMessages(from io.Reader, to io.Writer, startup bool, f func(kind byte, body []byte)) {
	in := bufio.NewReader(from)
	for {
		head := make([]byte, 5)
		if startup {
			head = head[1:]
		}
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if !startup {
			f(head[0], body)
		}
		startup = false
		if _, err := to.Write(slices.Concat(head, body)); err != nil {
			return
		}
	}
}

// postgres counts what a client waits for: a Sync, a Flush and a simple query.
func (w *wire) postgres(from io.Reader, to io.Writer) {
	var statements []string
	postgresMessages(from, to, true, func(kind byte, body []byte) {
		switch kind {
		case 'P': // name, statement, parameter types
			_, rest, _ := bytes.Cut(body, []byte{0})
			statement, _, _ := bytes.Cut(rest, []byte{0})
			statements = append(statements, string(statement))
		case 'S', 'H', 'Q':
			if kind == 'Q' {
				statements = append(statements, string(bytes.TrimRight(body, "\x00")))
			}
			w.add("postgres", strings.Join(statements, "; "))
			statements = nil
		}
	})
}

// postgresNotices keeps the messages of notices (the field of type M).
func (w *wire) postgresNotices(from io.Reader, to io.Writer) {
	postgresMessages(from, to, false, func(kind byte, body []byte) {
		if kind != 'N' {
			return
		}
		for field := range bytes.SplitSeq(body, []byte{0}) {
			if len(field) > 0 && field[0] == 'M' {
				w.mu.Lock()
				w.notices = append(w.notices, string(field[1:]))
				w.mu.Unlock()
			}
		}
	})
}

// redis counts commands (RESP: an array of bulk strings each).
func (w *wire) redis(from io.Reader, to io.Writer) {
	in := bufio.NewReader(from)
	var raw bytes.Buffer
	line := func() (kind byte, n int, ok bool) {
		b, err := in.ReadBytes('\n')
		raw.Write(b)
		if err != nil || len(b) < 4 {
			return 0, 0, false
		}
		n, err = strconv.Atoi(strings.TrimSpace(string(b[1:])))
		return b[0], n, err == nil
	}
	for {
		raw.Reset()
		kind, items, ok := line()
		if !ok || kind != '*' {
			break
		}
		name := ""
		for i := range items {
			_, n, ok := line()
			if !ok {
				return
			}
			b := make([]byte, n+2)
			if _, err := io.ReadFull(in, b); err != nil {
				return
			}
			raw.Write(b)
			if i == 0 {
				name = strings.ToUpper(string(b[:n]))
			}
		}
		w.add("redis", name)
		if _, err := to.Write(raw.Bytes()); err != nil {
			return
		}
	}
}

// http counts requests. Their bodies are small: they are passed on whole.
func (w *wire) http(from io.Reader, to io.Writer) {
	var raw bytes.Buffer
	in := bufio.NewReader(io.TeeReader(from, &raw))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // what is missing of it shows at the next request
		w.add("vault", req.Method+" "+req.URL.Path)
		if _, err := to.Write(raw.Bytes()); err != nil {
			return
		}
		raw.Reset()
	}
}
