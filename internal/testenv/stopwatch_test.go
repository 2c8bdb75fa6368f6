package testenv

import (
	"testing"
	"testing/synctest"
	"time"
)

// In a bubble no sleep is late, so the watch is told of a tick that a stalled
// machine would have brought.
func TestStopwatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := StartStopwatch(t)
		is := func(what string, got, want time.Duration) {
			t.Helper()
			if (got - want).Abs() > 4*stopwatchTick {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		begun := time.Now()
		time.Sleep(time.Second)
		is("an idle machine", s.Since(begun), time.Second)
		is("an idle machine loses", s.Lost(begun), 0)
		s.tick(time.Now().Add(3 * time.Second)) // woken 3 s late
		inside := time.Now().Add(2 * time.Second)
		time.Sleep(3*time.Second + 2*stopwatchTick)
		is("a stall of 3 s", s.Since(begun), time.Second)
		is("a stall of 3 s loses", s.Lost(begun), 3*time.Second)
		is("the stall's last second", s.Since(inside), 0)
		after := time.Now()
		time.Sleep(time.Second)
		is("after the stall", s.Since(after), time.Second)
	})
}
