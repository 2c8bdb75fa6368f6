package providers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/patchbay-dev/patchbay/internal/egress"
)

// NetworkOutcome classifies an error of dialling, TLS or reading into the outcome
// of a failed step. The error's own text goes nowhere: it names addresses.
func NetworkOutcome(err error) Outcome {
	code, hint := classify(err)
	return Failed(code, hint)
}

func classify(err error) (TestCode, string) {
	var (
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		dns       *net.DNSError
		network   net.Error
	)
	switch {
	case err == nil:
		return "", ""
	case errors.Is(err, egress.ErrDenied):
		return CodeEgressDenied, ""
	case errors.Is(err, ErrNoNetwork):
		return CodeNoNetwork, ""
	case errors.Is(err, context.Canceled):
		return CodeCancelled, ""
	case errors.As(err, &name):
		return CodeCertificateName, certificateNames(name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CodeCertificateExpired, ""
	case errors.As(err, &authority):
		return CodeCertificateUnknown, ""
	case errors.As(err, &invalid):
		return CodeTLSFailed, "The server's certificate is not valid for a server."
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch): // net/http's own word for it
		return CodeTLSWrongMode, "The server answers in plain text where TLS is expected."
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return CodeTimeout, ""
	case errors.Is(err, egress.ErrResolve), errors.As(err, &dns):
		return CodeHostNotFound, ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return CodeConnectionRefused, ""
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return CodeNetworkUnreachable, ""
	case errors.As(err, &alert), strings.Contains(err.Error(), "tls: "):
		return CodeTLSFailed, ""
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return CodeConnectionReset, ""
	default: // what is no HTTP, and whatever else a server can come up with
		return CodeProtocolError, ""
	}
}

// certificateNames says whom the certificate is for: it is public, and the admin
// most often typed an alias of one of these names.
func certificateNames(e x509.HostnameError) string {
	if e.Certificate == nil || len(e.Certificate.DNSNames) == 0 {
		return ""
	}
	names := e.Certificate.DNSNames
	more := ""
	if len(names) > 3 {
		names, more = names[:3], " and others"
	}
	return "The server's certificate is for " + Quote(strings.Join(names, ", ")) + more + ", not for this host name."
}
