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
	begun time.Time
	ticks *sync.Cond
	last  time.Time     // until when stalls are known
	lost  time.Duration // in stalls
}

const (
	stopwatchTick = 5 * time.Millisecond
	// stopwatchLate is what a timer may be late by on a machine that is idle.
	stopwatchLate = 2 * time.Millisecond
)

// StartStopwatch starts a watch, which runs until the test's end.
func StartStopwatch(t testing.TB) *Stopwatch {
	t.Helper()
	s := &Stopwatch{ticks: sync.NewCond(&sync.Mutex{}), begun: time.Now()}
	s.last = s.begun
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
	s.ticks.L.Lock()
	defer s.ticks.L.Unlock()
	if late := now.Sub(s.last) - stopwatchTick; late > stopwatchLate {
		s.lost += late
	}
	s.last = now
	s.ticks.Broadcast()
}

// Elapsed is the time since the start, or the last Restart. It blocks for a
// moment, so that a stall which is just over is known. Not to be called once the
// test has ended.
func (s *Stopwatch) Elapsed() time.Duration {
	now := time.Now()
	s.ticks.L.Lock()
	defer s.ticks.L.Unlock()
	for s.last.Before(now) {
		s.ticks.Wait()
	}
	return max(now.Sub(s.begun)-s.lost, 0)
}

// Restart begins anew.
func (s *Stopwatch) Restart() {
	s.Elapsed() // what was lost before it is not lost after it
	s.ticks.L.Lock()
	defer s.ticks.L.Unlock()
	s.begun, s.lost = time.Now(), 0
}
