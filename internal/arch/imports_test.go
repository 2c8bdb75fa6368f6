package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/patchbay-dev/patchbay/"

// pkg is a package of this module, as `go list -json` describes it. The paths
// lack the module's prefix.
type pkg struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	// The go command caches this test's result and can't see what the command
	// below reads: reading the folders here makes every file an input.
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles", module+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
}

// within tells whether path is one of the patterns: a package, or with "/..." a
// folder and what is below it.
func within(path string, patterns []string) bool {
	for _, p := range patterns {
		if folder, deep := strings.CutSuffix(p, "/..."); path == folder || path == p || deep && strings.HasPrefix(path, folder+"/") {
			return true
		}
	}
	return false
}

// homes: an SDK has one home, where its types and errors are turned into ours.
// Whoever else imported it would depend on its next major version too.
var homes = []struct {
	sdk    string
	home   []string
	reason string
}{
	{"github.com/golang-jwt/jwt", []string{"tenant/..."}, "an Env comes from one Verifier; a second parser of tokens is a second set of rules"},
	{"github.com/MicahParks/jwkset", []string{"tenant"}, "keys are kept per issuer in one place"},
	{"github.com/jackc/pgx", []string{"connector/postgres", "internal/testenv", "bench"}, "every SQL statement names its tenant, which is checked there (testenv makes databases, bench fills them by the million)"},
	{"modernc.org/sqlite", []string{"connector/sqlite"}, "the embedded store is one package"},
	{"github.com/pressly/goose", []string{"connector/postgres", "connector/sqlite"}, "schemas belong to their stores"},
	{"github.com/hashicorp/vault", []string{"vault"}, "its errors print secret paths and are classified there"},
	{"github.com/redis/go-redis", []string{"resolver/rediscache"}, "its errors and keys are classified and spelled there"},
	{"github.com/gofiber/fiber", []string{"httpapi/...", "bench/..."}, "fiber's strings live as long as the handler; what leaves is copied there (bench has the bare rival)"},
	{"github.com/valyala/fasthttp", []string{"httpapi/...", "bench/..."}, "as fiber"},
	{"github.com/danielgtaylor/huma", []string{"httpapi/adminapi"}, "its errors repeat what was submitted, and are replaced there"},
	{"golang.org/x/oauth2", []string{"providers/oauth/..."}, "its RetrieveError prints the upstream's body"},
	{"github.com/spf13/cobra", []string{"cmd/sidecar/command"}, "commands and wiring only"},
	{"github.com/prometheus/client_golang", []string{"internal/obs"}, "label values are collapsed there"},
	{"github.com/maypok86/otter", []string{"resolver", "tenant", "vault"}, "bounded memories are sized where what they hold is known"},
	{"github.com/goccy/go-yaml", []string{"internal/config", "datafile", "providers/httpkind"}, "strict decoding with positions is done where the schema is known"},
	{"github.com/aws/aws-sdk-go-v2", []string{"providers/builtin/s3", "client/..."}, "one kind, one SDK"},
	{"code.dny.dev/ssrf", []string{"internal/egress"}, "one policy: a second table of private ranges would drift from it"},
	{"github.com/wneessen/go-mail", []string{"providers/builtin/smtp", "client/..."}, "one kind, one SDK"},
}

func TestEachSDKHasOneHome(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			for _, h := range homes {
				if (i == h.sdk || strings.HasPrefix(i, h.sdk+"/")) && !within(p.ImportPath, h.home) {
					t.Errorf("%s imports %s, whose home is %s: %s", p.ImportPath, i, strings.Join(h.home, ", "), h.reason)
				}
			}
		}
	}
}

// arrows point inward. A package is judged by the first row that fits it, and
// may import what the row says; a new package needs a row.
var arrows = []struct {
	packages []string
	may      []string
	reason   string
}{
	{[]string{"internal/strictjson"}, []string{"internal/fault", "internal/secret"}, "a body is read before anything knows what it is about"},
	{[]string{"internal/fault", "internal/secret", "internal/obs", "examples"},
		nil, "leaves: everybody stands on them"},
	{[]string{"internal/egress"}, []string{"internal/fault"}, "a policy of hosts and addresses knows no tenant and no kind"},
	{[]string{"internal/egress/egresstest"}, nil, "what any dialler is attacked with, ours among them"},
	{[]string{"internal/config"}, []string{"internal/fault", "internal/secret"}, "config knows keys and values; cmd turns them into options"},
	{[]string{"internal/testenv/..."}, []string{"internal/testenv"}, "real servers know nothing of the project"},
	{[]string{"internal/arch"}, nil, "it looks from outside"},
	{[]string{"tenant"}, []string{"internal/fault", "internal/secret"}, "who asks is decided before anything else is known"},
	{[]string{"tenant/..."}, []string{"tenant", "tenant/devissuer", "internal/fault", "internal/secret"}, "as tenant"},
	{[]string{"providers/oauth"}, []string{"providers", "connector", "tenant", "vault", "internal/fault", "internal/secret"},
		"a token belongs to a tenant's connector, and its grant to Vault: unlike a kind it must know both, as contracts"},
	{[]string{"providers/builtin/internal/vendortest"}, []string{"providers/...", "internal/fault", "internal/secret", "internal/egress", "internal/testenv"},
		"what stands in for a vendor, with certificates of all sorts"},
	{[]string{"providers", "providers/builtin/...", "providers/providertest", "providers/httpkind"},
		[]string{"providers/...", "internal/fault", "internal/secret", "internal/egress"},
		"a provider knows no tenant and no store: it can't mix two customers up"},
	{[]string{"connector/internal/seal"}, []string{"internal/secret"}, "what is sealed is not known here"},
	{[]string{"connector"}, []string{"connector/internal/seal", "tenant", "providers", "internal/fault", "internal/secret"}, "records know no Vault (a secret is a pin) and no SQL"},
	{[]string{"connector/..."}, []string{"connector", "connector/internal/...", "tenant", "providers", "internal/fault", "internal/secret"},
		"stores know records, not who resolves them"},
	{[]string{"vault", "vault/..."}, []string{"vault", "connector", "tenant", "internal/fault", "internal/secret"},
		"secrets are addressed by a connector.SecretRef and nothing else"},
	{[]string{"resolver"}, []string{"connector", "providers", "tenant", "vault", "internal/fault", "internal/secret"},
		"the answer is made from contracts; adapters are handed in"},
	{[]string{"resolver/rediscache"}, []string{"resolver", "connector", "tenant", "internal/fault", "internal/secret"}, "an adapter of resolver's ports"},
	{[]string{"datafile"}, []string{"internal/fault"}, "parsing knows no record"},
	{[]string{"datafile/importer"}, []string{"datafile", "connector", "providers", "tenant", "vault", "internal/fault", "internal/secret"},
		"the importer works on contracts, whatever the stores"},
	{[]string{"internal/housekeeping"}, []string{"connector", "providers", "tenant", "vault", "internal/fault"},
		"it sweeps, tests and aligns what the contracts show (of providers: whose fault a finding is)"},
	{[]string{"httpapi/problem"}, []string{"internal/fault"}, "one table from faults to statuses"},
	{[]string{"httpapi/adminapi/apitest"}, nil, "it judges answers by the document that is served, and by nothing else"},
	{[]string{"httpapi/adminapi"}, []string{"httpapi/problem", "connector", "datafile", "datafile/importer", "providers", "tenant",
		"internal/fault", "internal/obs", "internal/secret", "internal/strictjson"},
		"the wire knows no store, no Vault and no Redis; rules are connector.Service's"},
	{[]string{"httpapi"}, []string{"httpapi/...", "connector", "providers", "resolver", "tenant", "internal/fault", "internal/obs", "internal/secret"},
		"the wire knows no store, no Vault and no Redis"},
	{[]string{"client/..."}, nil, "apps import it, and get nothing of the server with it"},
	{[]string{"cmd/..."}, []string{"..."}, "wiring sees everything"},
	{[]string{"bench/...", "e2e/..."}, []string{"..."}, "they look at the whole"},
}

func TestArrowsPointInward(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		row := slices.IndexFunc(arrows, func(a struct {
			packages []string
			may      []string
			reason   string
		}) bool {
			return within(p.ImportPath, a.packages)
		})
		if row < 0 {
			t.Errorf("%s has no row in arrows: say what it may import, and why", p.ImportPath)
			continue
		}
		a := arrows[row]
		for _, i := range p.Imports {
			own, ok := strings.CutPrefix(i, module)
			if ok && !slices.Contains(a.may, "...") && !within(own, a.may) {
				t.Errorf("%s imports %s, which it may not: %s", p.ImportPath, own, a.reason)
			}
		}
	}
}

func TestTestServersStayInTests(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if slices.Contains(p.Imports, module+"internal/testenv") && !within(p.ImportPath, []string{"bench/...", "internal/testenv/...", "providers/builtin/internal/vendortest"}) {
			t.Errorf("%s imports internal/testenv outside its tests: the product must not start servers", p.ImportPath)
		}
	}
}

// A kind is known because builtin lists it. A second list, in a command or a
// test's helper, would drift from it; a custom kind is blank-imported by its own
// main, outside this repository.
func TestBuiltinIsTheOneListOfKinds(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module+"providers/builtin/") && !within(p.ImportPath, []string{"providers/builtin/..."}) {
				t.Errorf("%s imports %s: kinds are listed in providers/builtin only", p.ImportPath, strings.TrimPrefix(i, module))
			}
		}
	}
}

// Suites and tools that are ordinary packages, so that the tests of others can
// import them. In the shipped binary they would be weight, flags and servers.
var notShipped = []string{
	"net/http/httptest", "net/http/pprof",
	module + "internal/testenv", module + "internal/testenv/oidc", module + "connector/storetest", module + "providers/providertest",
	module + "providers/builtin/internal/vendortest", module + "httpapi/adminapi/apitest",
	module + "internal/egress/egresstest", module + "tenant/tenanttest", module + "vault/vaulttest",
	"pgregory.net/rapid", "go.uber.org/goleak", "github.com/zitadel/oidc/v3/pkg/op", "github.com/santhosh-tekuri/jsonschema/v6",
}

func TestTheBinaryShipsNoTestCode(t *testing.T) {
	t.Parallel()
	suites := []string{"internal/testenv", "internal/testenv/oidc", "internal/egress/egresstest", "connector/storetest", "providers/providertest", "providers/builtin/internal/vendortest",
		"httpapi/adminapi/apitest", "tenant/tenanttest", "vault/vaulttest", "bench/..."}
	for _, p := range packages(t) {
		// Some of what we stand on imports it too; that is not ours to say.
		if slices.Contains(p.Imports, "testing") && !within(p.ImportPath, suites) {
			t.Errorf("%s imports testing outside its tests: that registers flags in the binary", p.ImportPath)
		}
	}
	cmd := exec.Command("go", "list", "-deps", module+"cmd/sidecar")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if slices.Contains(notShipped, dep) {
			t.Errorf("cmd/sidecar links %s, which is for tests: see `go mod why %s`", dep, dep)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, dir := range []string{"examples/gokind", "examples/gokind/syslog", "internal/testenv/vaultserver"} { // modules of their own
		all = append(all, pkg{ImportPath: dir, Dir: filepath.Join("..", "..", filepath.FromSlash(dir))})
	}
	for _, p := range all {
		const ask = "what flows through it, what may it import, where do its neighbours begin?"
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, "doc.go"), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Errorf("%s has no doc.go: %s", p.ImportPath, ask)
			continue
		}
		// A sentence repeats the name; what the next developer asks takes more.
		if words := len(strings.Fields(file.Doc.Text())); words < 20 {
			t.Errorf("the doc.go of %s has %d words: %s", p.ImportPath, words, ask)
		}
	}
}

// mandated libraries, each really used for its job.
var mandated = []string{
	"github.com/gofiber/fiber/v2", "github.com/redis/go-redis/v9", "github.com/hashicorp/vault/api",
	"github.com/golang-jwt/jwt/v5", "github.com/jackc/pgx/v5",
}

func TestMandatedLibrariesAreUsed(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			used[i] = true
		}
	}
	for _, m := range mandated {
		if !used[m] {
			t.Errorf("nothing imports %s", m)
		}
	}
}
