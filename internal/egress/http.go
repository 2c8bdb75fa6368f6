package egress

import (
	"crypto/tls"
	"net/http"
	"time"
)

// Transport returns a fresh transport over [Dialer.DialContext], whose settings the
// caller may change before its first use. It speaks HTTP/1.1 over TLS 1.2 or
// newer, takes no proxy from the environment (a proxy would do the dialling, for
// any host), and doesn't decompress: what a caller's limit on a body counts is
// what came over the wire. The number of connections to a host is not limited:
// tenants share their vendors, and one could use the limit up.
func (d *Dialer) Transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  15 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		Protocols:              &protocols,
	}
}

// Client returns a client over a fresh [Dialer.Transport]. It follows no redirect
// and returns it as the answer: a credential would travel along. timeout bounds
// the whole exchange, body included; 0 is no bound.
func (d *Dialer) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     d.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}
}
