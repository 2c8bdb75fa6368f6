package httpapi

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: a listener that was shut down leaves no goroutine behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The server's clock for Date headers is one per process, for ever.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// The sweeper of idle workers looks every ten seconds whether it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}
