package adminapi

import (
	"strings"

	"github.com/valyala/fasthttp"
)

// MaxBody is the largest body that any operation takes, in bytes: a data file.
const MaxBody = 16 << 20

// maxAnonymous is what is read of a request that shows no token: it will be refused.
const maxAnonymous = 16 << 10

// BodyLimit is how much of a request's body is read, in bytes.
func BodyLimit(h *fasthttp.RequestHeader) int {
	switch {
	case len(h.Peek("Authorization")) == 0:
		return maxAnonymous
	case pathOf(h) == pathImport:
		return MaxBody
	default:
		return maxBody
	}
}

func pathOf(h *fasthttp.RequestHeader) string {
	p, _, _ := strings.Cut(string(h.RequestURI()), "?")
	return p
}

const pathImport = "/api/connectors/import"
