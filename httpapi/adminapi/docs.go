package adminapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/swaggest/swgui/v5/static"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

//go:embed docs
var docs embed.FS

// What the page may do: its own scripts and styles (Swagger UI sets styles in
// place), and calls to where it came from.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsAsset is a part of the documentation page, compressed where it came so.
type docsAsset struct {
	mediaType string
	gzipped   bool
	content   []byte
}

// documentation serves a page that shows the document, and loads nothing from
// anywhere else.
// Errors: fault.Internal when a part is missing from the binary.
func (a *API) documentation(app *fiber.App) error {
	types := map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
	serve := func(route string, asset docsAsset) {
		app.Get(route, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentType, asset.mediaType)
			c.Set(fiber.HeaderContentSecurityPolicy, docsPolicy)
			c.Set(fiber.HeaderCacheControl, "no-cache")
			if !asset.gzipped {
				return c.Send(asset.content)
			}
			c.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
			if strings.Contains(c.Get(fiber.HeaderAcceptEncoding), "gzip") {
				c.Set(fiber.HeaderContentEncoding, "gzip")
				return c.Send(asset.content)
			}
			plain, err := gzip.NewReader(bytes.NewReader(asset.content))
			if err != nil {
				return fault.New(fault.Internal, "a part of the documentation can't be read").WithCause(err)
			}
			text, err := io.ReadAll(plain)
			if err != nil {
				return fault.New(fault.Internal, "a part of the documentation can't be read").WithCause(err)
			}
			return c.Send(text)
		})
	}
	for _, name := range []string{"index.html", "page.css", "page.js"} {
		content, err := docs.ReadFile("docs/" + name)
		if err != nil {
			return fault.New(fault.Internal, "a part of the documentation is missing").WithCause(err)
		}
		route := "/api/docs/" + name
		if name == "index.html" {
			route = "/api/docs"
		}
		serve(route, docsAsset{types[path.Ext(name)], false, content})
	}
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		content, err := static.FS.ReadFile(name + ".gz")
		if err != nil {
			return fault.New(fault.Internal, "a part of the documentation is missing").WithCause(err)
		}
		serve("/api/docs/"+name, docsAsset{types[path.Ext(name)], true, content})
	}
	return nil
}
