package postgres

import (
	"net"
	"strconv"
	"strings"
)

// Servers lists the servers that the URL names, as host:port, fallbacks included;
// Unix sockets are left out. The egress policy keeps tenants from them.
func (s *Store) Servers() []string {
	c := s.pool.Config().ConnConfig
	var out []string
	add := func(host string, port uint16) {
		if host != "" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") {
			out = append(out, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
	}
	add(c.Host, c.Port)
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port)
	}
	return out
}
