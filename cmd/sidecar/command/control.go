package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// A running dev holds its data dir alone. Import and export reach it through a
// Unix socket that only its own user can open, and whose path lies in the data
// dir: beside the data it is guarded as the data is.
const (
	controlFile  = "control" // holds the socket's path
	controlLimit = 256 << 20 // of one call's body
	// handover is how long import and export try when a dev is just starting or
	// leaving: it holds the lock then, and answers nobody.
	handover = 5 * time.Second
)

// importCall is what is imported at once, with everything that it refers to:
// variables and files are the command line's, never dev's.
type importCall struct {
	Sources             []importSource
	Variables           map[string]string
	Files               map[string][]byte
	Unreadable          map[string]string // why a file is not among Files
	Tenant              string
	CreateOrganizations bool
	Force               bool
	Restore             bool
	DryRun              bool
}

type importSource struct {
	Name    string
	Content []byte
}

type exportCall struct{ Tenant, Format string }

// whomCall asks for somebody who has an answer for a category; Tenant may be "".
type whomCall struct{ Tenant, Category string }

// whom is what it answers; Organization may be "".
type whom struct{ Tenant, Organization string }

// apiAddress is where dev's local API is.
type apiAddress struct {
	URL       string // as --url takes it
	Localhost bool   // its guard wants localhost for a Host
}

// controlAnswer is what either call answers. A failure is a sentence that was
// written for the same person who reads it now.
type controlAnswer struct {
	Output  string
	Failure string
	Usage   bool // the failure is wrong usage
}

// control serves import and export for a running dev.
type control struct {
	server http.Server
	ln     net.Listener
	file   string
	remove func()
}

// newControl opens the socket and leaves its path in the data dir.
func newControl(ctx context.Context, e *embedded, api apiAddress) (*control, error) {
	path, remove, err := controlSocket(e.dir)
	if err != nil {
		return nil, err
	}
	ln, err := listenAlone(ctx, path)
	if err != nil {
		remove()
		return nil, fmt.Errorf("the control socket %s cannot be made: %w", path, err)
	}
	c := &control{ln: ln, file: filepath.Join(e.dir, controlFile), remove: remove}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /import", answering(func(ctx context.Context, call importCall) (string, error) {
		return e.importFor(ctx, call)
	}))
	mux.HandleFunc("POST /export", answering(func(ctx context.Context, call exportCall) (string, error) {
		var out strings.Builder
		err := exportTo(ctx, &out, e.records(nil, nil), call.Tenant, call.Format)
		return out.String(), err
	}))
	mux.HandleFunc("POST /whom", answering(func(ctx context.Context, call whomCall) (string, error) {
		d, err := e.demo(ctx, call.Tenant, providers.Category(call.Category))
		if err != nil {
			return "", err
		}
		w := whom{Tenant: d.tenant.String(), Organization: d.organization.String()}
		switch {
		case w.Tenant == "" && call.Tenant == "":
			return "", errors.New("there is no tenant yet: import a data file first")
		case w.Tenant == "": // the local API says what it thinks of an unknown one
			w.Tenant = call.Tenant
		}
		out, err := json.Marshal(w)
		return string(out), err
	}))
	mux.HandleFunc("POST /address", answering(func(context.Context, struct{}) (string, error) {
		out, err := json.Marshal(api)
		return string(out), err
	}))
	c.server = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if err := writeFile(c.file, path); err != nil {
		c.close()
		return nil, fmt.Errorf("the data dir %s cannot be written: %w", e.dir, err)
	}
	return c, nil
}

// controlSocket is a path that fits: a socket's is 100 bytes at most on some
// systems, a data dir's may be any length.
func controlSocket(dir string) (path string, remove func(), err error) {
	const limit = 100
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("the data dir %s: %w", dir, err)
	}
	if path = filepath.Join(abs, "control.sock"); len(path) <= limit {
		return path, func() {}, nil
	}
	short, err := os.MkdirTemp("", "patchbay-") // mode 0700
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for the control socket: %w", err)
	}
	return filepath.Join(short, "control.sock"), func() { _ = os.RemoveAll(short) }, nil // empty but for the socket
}

// writeFile replaces a file in one step, so that no reader finds half a path.
func writeFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// run serves until ctx ends; calls under way are finished.
func (c *control) run(ctx context.Context) error {
	defer c.close()
	ended := make(chan error, 1)
	go func() { ended <- c.server.Serve(c.ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		budget, cancel := context.WithTimeout(context.WithoutCancel(ctx), handover)
		defer cancel()
		_ = c.server.Shutdown(budget) // a client that hangs does not hold dev up
		return ctx.Err()
	}
}

func (c *control) close() {
	_ = os.Remove(c.file) // a leftover one leads to a dead socket, which import sees
	_ = c.server.Close()
	_ = c.ln.Close()
	c.remove()
}

// answering decodes a call, and answers what do returns.
func answering[Call any](do func(ctx context.Context, call Call) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var call Call
		var answer controlAnswer
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, controlLimit)).Decode(&call)
		if err == nil {
			answer.Output, err = do(r.Context(), call)
		}
		if err != nil {
			answer.Failure, answer.Usage = printed(err), errors.As(err, new(usageError))
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the client has gone
	}
}

// importFor imports on behalf of the command line.
func (e *embedded) importFor(ctx context.Context, call importCall) (string, error) {
	lookup := func(name string) (string, bool) { v, ok := call.Variables[name]; return v, ok }
	readFile := func(path string) ([]byte, error) {
		b, ok := call.Files[path]
		if !ok {
			return nil, fault.New(fault.InvalidArgument, call.Unreadable[path])
		}
		return b, nil
	}
	if len(call.Sources) == 0 {
		return "", errors.New("the running dev is of another version than this command: start it anew")
	}
	sources := make([]datafile.Source, len(call.Sources))
	for i, s := range call.Sources {
		sources[i] = datafile.Source{Name: s.Name, Content: bytes.NewReader(s.Content)}
	}
	o := importer.Options{
		CreateOrganizations: call.CreateOrganizations, Force: call.Force, Restore: call.Restore, Actor: "cli:import",
	}
	if call.Tenant != "" {
		id, err := tenant.ParseID(call.Tenant)
		if err != nil {
			return "", usagef("--tenant: %w", err)
		}
		o.Tenant = id
	}
	var out strings.Builder
	err := importFrom(ctx, &out, e.records(lookup, readFile), sources, o, call.DryRun)
	return out.String(), err
}

// controlOf is the socket of the dev that holds a data dir. A socket of another
// owner than the file that names it is not dev's: the folder that it lay in was
// cleaned away, and somebody else waits at its path for secrets.
func controlOf(dir string) (string, bool) {
	name := filepath.Join(dir, controlFile)
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", false
	}
	socket := string(raw)
	file, err := os.Stat(name)
	if err != nil {
		return "", false
	}
	sock, err := os.Lstat(socket) //nolint:gosec // G703: nothing is opened, and the owner is compared before anything is said to it
	if err != nil || sock.Mode().Type() != os.ModeSocket || owner(sock) != owner(file) {
		return "", false
	}
	return socket, true
}

// devAnswers tells whether a dev holds the data dir and takes calls.
func devAnswers(ctx context.Context, dir string) bool {
	socket, ok := controlOf(dir)
	if !ok {
		return false
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// errNobody: no dev answers for the data dir, or it left before it answered.
var errNobody = errors.New("no dev is running")

// callDev calls the dev that holds a data dir. Errors: errNobody; the call's own
// failure.
func callDev(ctx context.Context, dir, path string, call any) (string, error) {
	socket, ok := controlOf(dir)
	if !ok {
		return "", errNobody
	}
	body, err := json.Marshal(call)
	if err != nil {
		return "", fmt.Errorf("encoding the call: %w", err)
	}
	if len(body) > controlLimit {
		return "", errors.New("the data files with all that they refer to are too large for one call to the running dev: split them")
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dev/"+path, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("calling dev: %w", err)
	}
	// A call that was cut off may have been carried out or not. Doing it again is
	// right either way: an import that is in already changes nothing.
	res, err := client.Do(req)
	if err != nil {
		return "", errNobody
	}
	defer func() { _ = res.Body.Close() }() // read to its end or abandoned
	var answer controlAnswer
	if err := json.NewDecoder(io.LimitReader(res.Body, controlLimit)).Decode(&answer); err != nil {
		return "", errNobody
	}
	switch {
	case answer.Usage:
		return answer.Output, usageError{listed(answer.Failure)}
	case answer.Failure != "":
		return answer.Output, listed(answer.Failure)
	default:
		return answer.Output, nil
	}
}

// importCallOf reads the data files of one unit and all that they refer to.
func importCallOf(names []string, env environment, flags importFlags) (importCall, error) {
	call := importCall{
		Variables: map[string]string{}, Files: map[string][]byte{}, Unreadable: map[string]string{},
		Tenant: flags.tenant, CreateOrganizations: flags.createOrganizations, Force: flags.force, Restore: flags.restore, DryRun: flags.dryRun,
	}
	sources, closeAll, err := openSources(names)
	if err != nil {
		return importCall{}, err
	}
	defer closeAll()
	// Each is read to its end, or as far as a data file may go.
	contents := make([]bytes.Buffer, len(sources))
	for i := range sources {
		sources[i].Content = io.TeeReader(sources[i].Content, &contents[i])
	}
	file, err := datafile.ParseUnit(sources, datafile.Limits{})
	if err != nil {
		return importCall{}, err
	}
	for i, name := range names {
		call.Sources = append(call.Sources, importSource{Name: name, Content: contents[i].Bytes()})
	}
	variables, paths := importer.Placeholders(file)
	for _, v := range variables {
		if value, ok := env.lookup(v); ok {
			call.Variables[v] = value
		}
	}
	for _, p := range paths {
		b, err := readValue(p)
		if err != nil {
			call.Unreadable[p] = fault.Message(err)
			continue
		}
		call.Files[p] = b
	}
	return call, nil
}
