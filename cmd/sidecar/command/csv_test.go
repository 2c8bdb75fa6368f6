package command

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// module writes the CSV files of a module: required params and a secret of a file
// beside it stand in the params alone.
func module(t *testing.T, bucket string) (connectors, params string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), "from a file\n")
	connectors = write(t, filepath.Join(dir, "ir.connector.csv"), "id,name,provider_type,organization_id/id,is_default\nmodule_s3,Module S3,aws_s3,acme,1\n")
	params = write(t, filepath.Join(dir, "ir.connector.param.csv"), "id,connector_id/id,key,value\n"+
		"p1,module_s3,bucket,"+bucket+"\np2,module_s3,access_key_id,$FILE:key\np3,module_s3,secret_access_key,$ENV:MINE\n")
	return connectors, params
}

// served is the connector's answer and the tenant's revision.
func (d *devProcess) served(t *testing.T) (backend, string) {
	t.Helper()
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--org", "acme").ok(t).out)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.local+"/v1/resolve/storage", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return d.resolve(t, token, "storage"), res.Header.Get("X-Patchbay-Revision")
}

// An EDE module's two CSV files are imported as one, in either order, by a
// running dev and without one.
func TestImportCSVFilesAsOne(t *testing.T) {
	t.Parallel()
	for _, through := range []bool{true, false} {
		t.Run(map[bool]string{true: "through dev", false: "directly"}[through], func(t *testing.T) {
			t.Parallel()
			d := newDev(t)
			d.start(t, nil)
			run := func(args ...string) outcome {
				t.Helper()
				if !through {
					d.end(t)
					defer d.start(t, nil)
				}
				return command(t, []string{"MINE=the caller's"}, append([]string{"import", "--data-dir", d.dir, "--tenant", "acme"}, args...)...)
			}
			connectors, params := module(t, "bucket-1")
			o := run("--dry-run", params, connectors).ok(t)
			if !strings.Contains(o.out, params+", "+connectors+"\n") || !strings.Contains(o.out, "1 to create") || strings.Contains(o.out, "the caller's") {
				t.Errorf("the plan:\n%s", o.out)
			}
			if b, _ := d.served(t); b.Connector.Name == "Module S3" {
				t.Errorf("a dry run imported %+v", b)
			}
			run(params, connectors).ok(t)
			eventually(t, "the module is served", func() bool { b, _ := d.served(t); return b.Config["bucket"] == "bucket-1" })
			b, revision := d.served(t)
			if b.Config["access_key_id"] != "from a file" || b.Config["secret_access_key"] != "the caller's" {
				t.Errorf("%+v", b)
			}
			for _, files := range [][]string{{params, connectors}, {connectors, params}, {params}, {connectors}} {
				if o := run(files...).ok(t); !strings.Contains(o.out, "0 to create, 0 to update") {
					t.Errorf("again:\n%s", o.out)
				}
			}
			if again, r := d.served(t); r != revision || again.Connector.Version != b.Connector.Version {
				t.Errorf("revision %s became %s", revision, r)
			}

			// A bad row: its file and line, and nothing is imported.
			write(t, params, strings.Replace(read(t, params), "bucket-1", "bucket-2", 1)+"p4,module_s3,path.style,maybe\n")
			run(connectors, params).fails(t, exitFailed, params+":5:", `"p4"`, "path_style")
			// Files of other formats keep their place, and what comes before the
			// CSV files' place stays imported when they are bad.
			first := write(t, filepath.Join(t.TempDir(), "first.yaml"), "records: [{id: acme, model: gateway.tenant, fields: {name: First}}]\n")
			last := write(t, filepath.Join(t.TempDir(), "last.yaml"), "records: [{id: acme, model: gateway.tenant, fields: {name: Last}}]\n")
			o = run(first, connectors, last, params).fails(t, exitFailed, params+":5:")
			if !strings.HasPrefix(o.out, first) || strings.Contains(o.out, last) {
				t.Errorf("the plans:\n%s", o.out)
			}
			if again, _ := d.served(t); again.Config["bucket"] != "bucket-1" {
				t.Errorf("a bad row imported %+v", again)
			}
			// A second file of the same model, with a record that the first has.
			twice := write(t, filepath.Join(t.TempDir(), "ir.connector.csv"), read(t, connectors))
			run(connectors, twice).fails(t, exitFailed, twice+":2:", "given twice, first at "+connectors+":2")
			run(connectors, filepath.Join(t.TempDir(), "none.csv")).fails(t, exitFailed, "none.csv")

			command(t, nil, "import", "--data-dir", d.dir, connectors, params).fails(t, exitFailed, connectors+":2:", "--tenant")
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A value is read from regular files, as far as a value may go, and whatever the
// path leads to, the answer comes at once.
func TestReadValue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("plain"), "secret\r\n")
	write(t, at("full"), strings.Repeat("x", valueLimit))
	write(t, at("over"), strings.Repeat("x", valueLimit+1))
	if err := os.Truncate(write(t, at("sparse"), ""), 64<<30); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	// As Kubernetes mounts a secret: a link into a folder that is a link.
	if err := os.Mkdir(at("..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, at("..2026/password"), "mounted")
	for link, to := range map[string]string{"..data": "..2026", "password": "..data/password", "loop": "loop", "zero": "/dev/zero"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	socket := socketPath(t)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	for _, row := range []struct{ path, want, problem string }{
		{at("plain"), "secret\r\n", ""},
		{at("password"), "mounted", ""},
		{at("full"), strings.Repeat("x", valueLimit), ""},
		{at("over"), "", "a value has at most 1048576 bytes"},
		{at("sparse"), "", "a value has at most 1048576 bytes"},
		{at("none"), "", "it does not exist"},
		{at("loop"), "", "it cannot be opened and read"},
		{dir, "", "it is a directory"},
		{at("fifo"), "", "it is no regular file"},
		{at("zero"), "", "it is no regular file"},
		{"/dev/null", "", "it is no regular file"},
		{socket, "", "it is no regular file"},
	} {
		type answer struct {
			b   []byte
			err error
		}
		got := make(chan answer, 1)
		go func() {
			b, err := readValue(row.path)
			got <- answer{b, err}
		}()
		select {
		case a := <-got:
			if string(a.b) != row.want || fault.Message(a.err) != row.problem || (a.err != nil) != (row.problem != "") {
				t.Errorf("%s: %d bytes, %v", row.path, len(a.b), a.err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no answer", row.path)
		}
	}
}

// What a value cannot be read for is said at its line, by a running dev as well.
func TestImportSaysWhyAFileIsNotRead(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "over"), strings.Repeat("x", valueLimit+1))
	file := write(t, filepath.Join(dir, "f.xml"), strings.NewReplacer("'AK'", "'$FILE:over'", "'S'", "'$FILE:/dev/zero'", "bucket-1", "$FILE:.").Replace(bucketFile("bucket-1", "S")))
	check := func() {
		t.Helper()
		o := command(t, nil, "import", "--data-dir", d.dir, file).fails(t, exitFailed,
			"the file over can't be read: a value has at most 1048576 bytes", "the file /dev/zero can't be read: it is no regular file", "the file . can't be read: it is a directory")
		if strings.Count(o.err, "f.xml:10:") != 3 {
			t.Errorf("%s", o.err)
		}
	}
	check()
	d.end(t)
	check()
	// A data file may be a pipe: it is read once.
	pipe := filepath.Join(dir, "pipe.xml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte(bucketFile("bucket-1", "S")), 0o600) }()
	command(t, nil, "import", "--data-dir", d.dir, pipe).ok(t)
}

// The same on real servers, with --config.
func TestImportCSVFilesIntoServers(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	command(t, nil, "migrate", "--config", i.config).ok(t)
	command(t, acmeVariables, "import", "--config", i.config, "../../../examples/acme.xml").ok(t)
	connectors, params := module(t, "bucket-1")
	run := func(args ...string) outcome {
		t.Helper()
		return command(t, []string{"MINE=mine"}, append([]string{"import", "--config", i.config, "--tenant", "acme"}, args...)...)
	}
	run(params).fails(t, exitFailed, params+":2:", "no known connector")
	run(connectors).fails(t, exitFailed, connectors+":2:", "is required")
	run(params, connectors).ok(t)
	for _, files := range [][]string{{connectors, params}, {params}, {connectors}} {
		if o := run(files...).ok(t); !strings.Contains(o.out, "0 to create, 0 to update") {
			t.Errorf("again:\n%s", o.out)
		}
	}
	if o := command(t, nil, "export", "--config", i.config, "--tenant", "acme").ok(t); !strings.Contains(o.out, "bucket-1") {
		t.Errorf("%s", o.out)
	}
}
