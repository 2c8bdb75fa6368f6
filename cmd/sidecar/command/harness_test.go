package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testenv.Stop()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a temporary folder
	}
	os.Exit(code)
}

// patience bounds every wait: far above what anything takes on a busy machine.
const patience = 30 * time.Second

// text is a buffer that a running program writes and a test reads.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *text) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *text) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// outcome is what a command that ended left.
type outcome struct {
	code     int
	out, err string
}

// command runs one command to its end.
func command(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	var out, errs text
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code := run(ctx, args, streams{in: strings.NewReader(""), out: &out, err: &errs}, env)
	return outcome{code, out.String(), errs.String()}
}

// ok fails the test when the command did not succeed.
func (o outcome) ok(t testing.TB) outcome {
	t.Helper()
	if o.code != exitDone {
		t.Fatalf("exit %d\n%s%s", o.code, o.out, o.err)
	}
	return o
}

// fails checks the exit code and that stderr holds each text.
func (o outcome) fails(t testing.TB, code int, texts ...string) outcome {
	t.Helper()
	if o.code != code {
		t.Errorf("exit %d, want %d\n%s%s", o.code, code, o.out, o.err)
	}
	for _, want := range texts {
		if !strings.Contains(o.err, want) {
			t.Errorf("stderr lacks %q:\n%s", want, o.err)
		}
	}
	return o
}

// devProcess is a running dev of this test process.
type devProcess struct {
	dir                  string
	local, admin, probes string // host:port
	out, err             text
	stop                 context.CancelFunc
	done                 chan struct{}
	code                 int
}

func (d *devProcess) environment(extra ...string) []string {
	env := []string{"PATCHBAY_ADMIN_LISTEN=" + d.admin, "PATCHBAY_PROBES_LISTEN=" + d.probes}
	if d.local != "" { // "": the test names a socket
		env = append(env, "PATCHBAY_LOCAL_LISTEN="+d.local)
	}
	return append(env, extra...)
}

// newDev reserves a data dir and ports; nothing runs yet.
func newDev(t testing.TB) *devProcess {
	t.Helper()
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)) }
	return &devProcess{dir: filepath.Join(t.TempDir(), "data"), local: port(), admin: port(), probes: port()}
}

// start runs dev until stop or the test's end, and waits until it is ready.
func (d *devProcess) start(t testing.TB, env []string, args ...string) {
	t.Helper()
	d.begin(t, env, args...)
	eventually(t, "dev is ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("dev ended with %d\n%s%s", d.code, d.out.String(), d.err.String())
		default:
		}
		code, _ := get(t, "http://"+d.probes+"/readyz", "")
		return code == http.StatusOK
	})
}

func (d *devProcess) begin(t testing.TB, env []string, args ...string) {
	t.Helper()
	for _, address := range []string{d.local, d.admin, d.probes} {
		if address != "" {
			eventually(t, address+" is free", func() bool { return testenv.Free(address) })
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.done = cancel, make(chan struct{})
	d.out, d.err = text{}, text{}
	go func() {
		defer close(d.done)
		d.code = run(ctx, append([]string{"dev", "--data-dir", d.dir}, args...),
			streams{in: strings.NewReader(""), out: &d.out, err: &d.err}, d.environment(env...))
	}()
	t.Cleanup(func() { d.end(t) })
}

// end stops dev and waits until it has.
func (d *devProcess) end(t testing.TB) {
	t.Helper()
	d.stop()
	select {
	case <-d.done:
	case <-time.After(patience):
		t.Fatal("dev does not end")
	}
}

var jwtPattern = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)

// bannerToken is the first JWT that dev printed.
func (d *devProcess) bannerToken(t testing.TB) string {
	t.Helper()
	token := jwtPattern.FindString(d.out.String())
	if token == "" {
		t.Fatalf("the banner holds no token:\n%s", d.out.String())
	}
	return token
}

// backend is an answer of the local API.
type backend struct {
	Connector struct {
		ID, Name, Kind string
		ExternalID     string `json:"external_id"`
		Version        int64
		Inherited      bool
	}
	Config map[string]any
	Stale  bool
}

// resolve asks dev's local API.
func (d *devProcess) resolve(t testing.TB, token, category string) backend {
	t.Helper()
	code, body := get(t, "http://"+d.local+"/v1/resolve/"+category, token)
	if code != http.StatusOK {
		t.Fatalf("resolve %s: %d %s", category, code, body)
	}
	var b backend
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// get calls an URL; 0 when nothing answers.
func get(t testing.TB, url, token string) (code int, body string) {
	t.Helper()
	code, body, _ = getWith(t, &http.Transport{DisableKeepAlives: true}, url, token)
	return code, body
}

func getWith(t testing.TB, transport *http.Transport, url, token string) (code int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patience, Transport: transport}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", nil
	}
	return res.StatusCode, string(b), res.Header
}

// heard waits until a connected local API, of a socket unless that is "", answers
// for storage with a text that an import has brought, and fails when that takes
// longer than a second. A process that a busy machine has cut off for a moment
// is not connected, and says so by its answer's Age.
func heard(t testing.TB, address, socket, token, text string) {
	t.Helper()
	committed := time.Now()
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	eventually(t, text+" is served", func() bool {
		asked := time.Now()
		code, body, header := getWith(t, transport, "http://"+address+"/v1/resolve/storage", token)
		age, err := strconv.Atoi(header.Get("Age"))
		if code != http.StatusOK || err != nil {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		if strings.Contains(body, text) {
			return true
		}
		if late := asked.Sub(committed); late > time.Second+time.Duration(age)*time.Second {
			t.Fatalf("the old answer is served %s after the import, as %d s old", late, age)
		}
		return false
	})
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bucketFile is a data file with one S3 connector of a tenant and organization
// of its own.
func bucketFile(bucket, secretKey string) string {
	return `<patchbay><data>
  <record id="t" model="gateway.tenant"><field name="key">initech</field></record>
  <record id="o" model="res.organization"><field name="key">hq</field><field name="tenant_id" ref="t"/></record>
  <record id="initech_s3" model="ir.connector">
    <field name="name">Initech S3</field>
    <field name="category">storage</field>
    <field name="kind">s3</field>
    <field name="organization_id" ref="o"/>
    <field name="is_default">true</field>
    <field name="config" eval="{'bucket': '` + bucket + `', 'region': 'us-east-1', 'access_key_id': 'AK', 'secret_access_key': '` + secretKey + `'}"/>
  </record>
</data></patchbay>
`
}
