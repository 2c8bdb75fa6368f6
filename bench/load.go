package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

// order tells a load generator what to do. It is a process of its own, on
// processors of its own, so that it neither waits for what it measures nor
// slows it down. It writes prepared bytes and reads as little as shows that the
// answer is the expected one: what it costs is the same for every rival.
type order struct {
	Addr, Path  string
	Tokens      []string // each connection sends them in turn
	Connections int
	Length      time.Duration
	Want        []byte // the body of each answer
}

// figures are what a load generator saw.
type figures struct {
	Requests int
	Took     time.Duration
	P50, P99 time.Duration
	Busy     float64 // how much of its processors' time the generator itself used
}

func (f figures) rate() float64 { return float64(f.Requests) / f.Took.Seconds() }

// load has a generator carry out an order.
func (h *host) load(mask uint64, o order) figures {
	self, err := os.Executable()
	h.must(err)
	in, err := json.Marshal(o)
	h.must(err)
	ctx, cancel := context.WithTimeout(h.ctx, o.Length+patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-generate")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	h.must(startOn(cmd, mask))
	if err := cmd.Wait(); err != nil {
		h.Fatalf("load generator: %w\n%s", err, errs.String())
	}
	var f figures
	h.must(json.Unmarshal(out.Bytes(), &f))
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	f.Busy = float64(used) / float64(f.Took)
	return f
}

// generate is the generator: an order on in, figures on out.
func generate(in io.Reader, out io.Writer) error {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	requests := make([][]byte, len(o.Tokens))
	for i, token := range o.Tokens {
		requests[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", o.Path, o.Addr, token)
	}
	callers := make([]*caller, o.Connections)
	for i := range callers {
		conn, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // the process ends
		callers[i] = &caller{conn: conn, requests: requests, next: i, want: slices.Concat(headEnd, o.Want), buf: make([]byte, 64<<10),
			took: make([]int32, 0, 1<<17)}
		// The first answers of a connection pay for buffers on both sides, and for
		// the tokens' signatures.
		for range requests {
			if err := callers[i].call(); err != nil {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(callers))
	began := time.Now()
	deadline := began.Add(o.Length)
	for i, c := range callers {
		wg.Go(func() { errs[i] = c.run(deadline) })
	}
	wg.Wait()
	f := figures{Took: time.Since(began)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var all []int32
	for _, c := range callers {
		all = append(all, c.took...)
	}
	slices.Sort(all)
	f.Requests = len(all)
	f.P50, f.P99 = time.Duration(all[len(all)/2]), time.Duration(all[len(all)*99/100])
	return json.NewEncoder(out).Encode(f)
}

// caller keeps one connection busy.
type caller struct {
	conn     net.Conn
	requests [][]byte
	next     int
	want     []byte // with the end of the headers before it
	buf      []byte
	took     []int32 // nanoseconds
}

func (c *caller) run(deadline time.Time) error {
	t := time.Now()
	// Once at least: a busy machine may start a caller late, and of no answers there
	// are no figures.
	for len(c.took) == 0 || t.Before(deadline) {
		if err := c.call(); err != nil {
			return err
		}
		now := time.Now()
		c.took = append(c.took, int32(min(now.Sub(t), time.Second)))
		t = now
	}
	return nil
}

var (
	errAnswer = errors.New("an answer was not the expected one")
	ok200     = []byte("HTTP/1.1 200 ")
	headEnd   = []byte("\r\n\r\n")
	lengthTag = []byte("\r\nContent-Length: ")
)

// call sends the next request and reads its answer.
func (c *caller) call() error {
	request := c.requests[c.next%len(c.requests)]
	c.next++
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	have, need := 0, -1
	for need < 0 || have < need {
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			return err
		}
		have += n
		if need < 0 {
			if end := bytes.Index(c.buf[:have], headEnd); end >= 0 {
				length, err := contentLength(c.buf[:end+2])
				if err != nil {
					return err
				}
				need = end + len(headEnd) + length
			}
		}
	}
	if !bytes.HasPrefix(c.buf, ok200) || !bytes.HasSuffix(c.buf[:need], c.want) {
		return fmt.Errorf("%w: %q", errAnswer, c.buf[:have])
	}
	return nil
}

func contentLength(head []byte) (int, error) {
	_, rest, found := bytes.Cut(head, lengthTag)
	if !found {
		return 0, fmt.Errorf("%w: no length", errAnswer)
	}
	return strconv.Atoi(string(rest[:bytes.IndexByte(rest, '\r')]))
}
