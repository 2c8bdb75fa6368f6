package main

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// serveBare is the limit: what Fiber does when there is nothing to do.
func serveBare(file, addr string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/v1/resolve/:category", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(body)
	})
	return app.Listen(addr)
}

// figures are one round's outcome.
type figures struct {
	rate float64 // requests per second
	p99  time.Duration
}

var errWrongAnswer = errors.New("an answer differed from the expected bytes")

// load keeps n connections busy for a while and checks every answer.
func load(url, token string, n int, length time.Duration, want []byte) (figures, error) {
	client := &fasthttp.Client{MaxConnsPerHost: n, NoDefaultUserAgentHeader: true}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all []time.Duration
	var first error
	var wg sync.WaitGroup
	began := time.Now()
	deadline := began.Add(length)
	for range n {
		wg.Go(func() {
			req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(res)
			req.SetRequestURI(url)
			req.Header.Set("Authorization", "Bearer "+token)
			var mine []time.Duration
			var err error
			for err == nil {
				t := time.Now()
				if t.After(deadline) {
					break
				}
				err = client.Do(req, res)
				mine = append(mine, time.Since(t))
				if err == nil && (res.StatusCode() != 200 || !bytes.Equal(res.Body(), want)) {
					err = errWrongAnswer
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if first != nil {
		return figures{}, first
	}
	slices.Sort(all)
	return figures{rate: float64(len(all)) / took.Seconds(), p99: all[len(all)*99/100]}, nil
}
