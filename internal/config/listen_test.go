package config

import "testing"

// Who can reach the local API gets secrets: only an operator who says so opens it
// to a network.
func TestLocalListensOnLoopback(t *testing.T) {
	t.Parallel()
	for _, m := range []Mode{ModeServe, ModeDev} {
		if c := defaults(m); c.Local.Listen != "127.0.0.1:7411" || c.Local.Socket != "" {
			t.Errorf("%s listens on %q and %q", m, c.Local.Listen, c.Local.Socket)
		}
	}
}
