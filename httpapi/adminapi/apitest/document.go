package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Document is an OpenAPI document, ready to judge responses.
type Document struct {
	root     map[string]any
	compiler *jsonschema.Compiler

	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema
	seen     map[string]int // operation id and status, as often as it was seen
}

const base = "https://document.test/openapi.json"

// Parse reads a document.
func Parse(t testing.TB, text []byte) *Document {
	t.Helper()
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the document is no JSON: %v", err)
	}
	d := &Document{compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}, seen: map[string]int{}}
	d.root, _ = root.(map[string]any)
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(base, root); err != nil {
		t.Fatalf("the document: %v", err)
	}
	return d
}

// Operation is one operation of a document.
type Operation struct {
	ID, Method, Path string
	Public           bool // nobody has to say who they are
	Raw              map[string]any
}

// Operations lists the document's, by path and method.
func (d *Document) Operations() []Operation {
	var out []Operation
	paths, _ := d.root["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item, _ := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			op, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			id, _ := op["operationId"].(string)
			security, _ := op["security"].([]any)
			out = append(out, Operation{ID: id, Method: strings.ToUpper(method), Path: path, Public: len(security) == 0, Raw: op})
		}
	}
	return out
}

// find is the operation of a request: fixed parts of a path come before parameters.
func (d *Document) find(method, path string) (Operation, bool) {
	best, score := Operation{}, -1
	parts := strings.Split(path, "/")
	for _, op := range d.Operations() {
		want := strings.Split(op.Path, "/")
		if op.Method != method || len(want) != len(parts) {
			continue
		}
		fits, fixed := true, 0
		for i, p := range want {
			switch {
			case strings.HasPrefix(p, "{"):
				fits = fits && parts[i] != ""
			case p == parts[i]:
				fixed++
			default:
				fits = false
			}
		}
		if fits && fixed > score {
			best, score = op, fixed
		}
	}
	return best, score >= 0
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

// Resolve follows a $ref within the document.
func (d *Document) Resolve(schema map[string]any) map[string]any {
	for {
		to, ok := schema["$ref"].(string)
		if !ok {
			return schema
		}
		var at any = d.root
		for part := range strings.SplitSeq(strings.TrimPrefix(to, "#/"), "/") {
			m, _ := at.(map[string]any)
			at = m[strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")]
		}
		schema, _ = at.(map[string]any)
	}
}

// Check says what of a response the document does not describe, "" for nothing.
func (d *Document) Check(method, path string, status int, header http.Header, body []byte) string {
	op, ok := d.find(method, path)
	if !ok {
		return "" // no operation: whoever asks looks at the problem
	}
	responses, _ := op.Raw["responses"].(map[string]any)
	response, ok := responses[strconv.Itoa(status)].(map[string]any)
	if !ok {
		return fmt.Sprintf("%s answers %d, which the document does not know: %.300s", op.ID, status, body)
	}
	d.mu.Lock()
	d.seen[op.ID+" "+strconv.Itoa(status)]++
	d.mu.Unlock()
	content, _ := response["content"].(map[string]any)
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Sprintf("%s answers %d with a body, and the document has none", op.ID, status)
		}
		return ""
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if _, known := content[mediaType]; err != nil || !known {
		return fmt.Sprintf("%s answers %d as %q, and the document says %v", op.ID, status, header.Get("Content-Type"), slices.Sorted(maps.Keys(content)))
	}
	if !strings.HasSuffix(mediaType, "json") {
		return ""
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Sprintf("%s answers %d with what is no JSON: %v", op.ID, status, err)
	}
	at := base + "#/paths/" + escape(op.Path) + "/" + strings.ToLower(op.Method) + "/responses/" + strconv.Itoa(status) + "/content/" + escape(mediaType) + "/schema"
	schema, err := d.schema(at)
	if err != nil {
		return fmt.Sprintf("%s, %d: the document's schema is none: %v", op.ID, status, err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Sprintf("%s answers %d with what the document does not describe: %v\n%.2000s", op.ID, status, err, body)
	}
	return ""
}

func (d *Document) schema(at string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.compiled[at]; s != nil {
		return s, nil
	}
	s, err := d.compiler.Compile(at)
	if err == nil {
		d.compiled[at] = s
	}
	return s, err
}

// Seen tells how often an operation answered with a status so far.
func (d *Document) Seen(id string, status int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[id+" "+strconv.Itoa(status)]
}

// Transport is a round tripper that holds every response of an API against its
// document.
type Transport struct {
	T        testing.TB
	Document *Document
	Base     http.RoundTripper // nil is the default
}

// RoundTrip implements http.RoundTripper.
func (r *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	next := r.Base
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read to its end
	if err != nil {
		return nil, err
	}
	if wrong := r.Document.Check(req.Method, req.URL.Path, res.StatusCode, res.Header, body); wrong != "" {
		r.T.Errorf("%s %s: %s", req.Method, req.URL.Path, wrong)
	}
	if res.StatusCode >= 400 {
		var p map[string]any
		if json.Unmarshal(body, &p) != nil && req.Method != http.MethodHead && !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			r.T.Errorf("%s %s: %d is no problem: %.300s", req.Method, req.URL.Path, res.StatusCode, body)
		}
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}
