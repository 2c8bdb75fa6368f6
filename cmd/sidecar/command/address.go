package command

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
)

// callable is how a program of this machine calls a listener's address. One to
// listen on everywhere is none to call, and the local API's guard refuses it as
// a Host. Go listens on both families there, so that IPv4's loopback answers.
func callable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// shownAddress is a listener's address as --url takes it.
func shownAddress(ln net.Listener) string {
	if path := ln.Addr().String(); ln.Addr().Network() == "unix" {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs // who reads this may be somewhere else
		}
		return "unix://" + path
	}
	return "http://" + callable(ln.Addr().String())
}

// asLocalhost tells whether a call has to name localhost as its Host to pass the
// guard: the listener is bound to an address that local.allowed_hosts may lack.
func asLocalhost(ln net.Listener) bool {
	tcp, ok := ln.Addr().(*net.TCPAddr)
	return ok && !tcp.IP.IsUnspecified() && !tcp.IP.Equal(net.IPv4(127, 0, 0, 1)) && !tcp.IP.Equal(net.IPv6loopback)
}

// leftLoopback says who can reach a listener that others than this machine can,
// and what puts it back; "" for one that is where it should be.
func leftLoopback(name string, ln net.Listener, variable, gets string) string {
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !ok || tcp.IP.IsLoopback() {
		return ""
	}
	where := tcp.String()
	if tcp.IP.IsUnspecified() {
		where += ", every address of this machine"
	}
	return fmt.Sprintf("The %s has left loopback: it listens on %s, and %s. %s=127.0.0.1:%d puts it back.\n", name, where, gets, variable, tcp.Port)
}
