package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"

	"github.com/gofiber/fiber/v2"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	body := flag.String("body", "", "file with the body")
	headers := flag.String("headers", "", "file with a JSON list of [name, value]; without it only the Content-Type is set")
	flag.Parse()
	if err := serve(*addr, *body, *headers); err != nil {
		log.Fatal(err)
	}
}

func serve(addr, bodyFile, headersFile string) error {
	body, err := os.ReadFile(bodyFile)
	if err != nil {
		return err
	}
	var headers [][2]string
	if headersFile != "" {
		b, err := os.ReadFile(headersFile)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &headers); err != nil {
			return err
		}
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/v1/resolve/:category", func(c *fiber.Ctx) error {
		h := &c.Response().Header
		h.SetContentType(fiber.MIMEApplicationJSON)
		for i := range headers {
			h.Set(headers[i][0], headers[i][1])
		}
		// By reference, as the sidecar does: a copy would be a handicap.
		c.Response().SetBodyRaw(body)
		return nil
	})
	return app.Listen(addr)
}
