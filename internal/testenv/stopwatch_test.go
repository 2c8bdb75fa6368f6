package testenv

import (
	"testing"
	"testing/synctest"
	"time"
)

// In a bubble no sleep is late, so what passes between two ticks is told to the
// watch as a stalled machine would.
func TestStopwatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := StartStopwatch(t)
		time.Sleep(time.Second)
		if d := s.Elapsed(); d != time.Second {
			t.Errorf("%s of a machine that is idle", d)
		}
		s.tick(time.Now().Add(3 * time.Second)) // woken 3 s late
		time.Sleep(3*time.Second + 2*stopwatchTick)
		if d := s.Elapsed(); d < time.Second || d > time.Second+4*stopwatchTick {
			t.Errorf("%s, of which a stall of 3 s is no part", d)
		}
		s.Restart()
		time.Sleep(time.Second)
		if d := s.Elapsed(); d < time.Second-stopwatchTick || d > time.Second {
			t.Errorf("%s after a restart", d)
		}
	})
}
