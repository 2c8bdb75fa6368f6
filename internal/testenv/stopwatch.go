package testenv

import (
	"sync"
	"testing"
	"time"
)

// A Stopwatch tells how long something took that may take a bounded time only,
// less the time in which this machine let the test itself wait: a machine that
// stalls for seconds says nothing about what is measured. While it runs, a
// goroutine that sleeps for a moment at a time finds out by how much it is woken
// too late. Safe for concurrent use.
//
// It knows this process and the machine under it. What another process alone is
// kept from doing, as one that is stopped, counts.
type Stopwatch struct {
	mu     sync.Mutex
	ticked *sync.Cond
	last   time.Time // until when stalls are known
	stalls []stall   // by their end
}

type stall struct {
	end    time.Time
	length time.Duration
}

const (
	stopwatchTick = 5 * time.Millisecond
	// stopwatchLate is what a timer may be late by on a machine that is idle.
	stopwatchLate = 2 * time.Millisecond
)

// StartStopwatch starts a watch, which runs until the test's end.
func StartStopwatch(t testing.TB) *Stopwatch {
	t.Helper()
	s := &Stopwatch{last: time.Now()}
	s.ticked = sync.NewCond(&s.mu)
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			time.Sleep(stopwatchTick)
			s.tick(time.Now())
		}
	}()
	return s
}

func (s *Stopwatch) tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if late := now.Sub(s.last) - stopwatchTick; late > stopwatchLate {
		s.stalls = append(s.stalls, stall{now, late})
	}
	s.last = now
	s.ticked.Broadcast()
}

// Since is time.Since of a moment no earlier than the watch's start, less what
// was lost after it. It blocks for a moment, so that a stall which is just over
// is known. Not to be called once the test has ended.
func (s *Stopwatch) Since(begun time.Time) time.Duration {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.last.Before(now) {
		s.ticked.Wait()
	}
	took := now.Sub(begun)
	for i := len(s.stalls) - 1; i >= 0 && s.stalls[i].end.After(begun); i-- {
		took -= min(s.stalls[i].length, s.stalls[i].end.Sub(begun))
	}
	return max(took, 0)
}

// Lost is what Since left out.
func (s *Stopwatch) Lost(begun time.Time) time.Duration {
	took := time.Since(begun)
	return max(took-s.Since(begun), 0)
}
