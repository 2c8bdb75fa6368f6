package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestEgressAllow(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"10.20.0.0/16", "10.0.0.1/32", "0.0.0.0/0", "10.20.0.0/16:587", "fd00::/8", "[fd00::/8]:587", "192.0.2.7", "192.0.2.7:25",
		"fd00::25", "[fd00::25]:587", "mail.corp.example", "mail.corp.example:587", "MAIL.corp.example", "files", "xn--bcher-kva.example",
		"3com.example", "a-b.c-d:65535", "1.example", strings.Repeat("a", 63) + ".example",
	} {
		if message := allowProblem(entry); message != "" {
			t.Errorf("%s: %s", entry, message)
		}
	}
	for entry, want := range map[string]string{
		"": badAllow, " a": badAllow, "a b": badAllow, "user@host": badAllow, "host.": badAllow, ".host": badAllow, "a..b": badAllow,
		"-a.example": badAllow, "a-.example": badAllow, "a_b.example": badAllow, "bücher.example": badAllow, strings.Repeat("a", 64): badAllow,
		strings.Repeat("a.", 127) + "example": badAllow, "true,": badAllow, `"a"`: badAllow,
		// What a C resolver takes for an address, and who wrote it may not.
		"1": badAllow, "127.1": badAllow, "2130706433": badAllow, "0x7f.1": badAllow, "0x7f000001": badAllow, "0177.0.0.1": badAllow,
		"256.0.0.1": badAllow, "10.20.0.0.1": badAllow, "1:25": badAllow, "０.example": badAllow,
		"host:": badPort, "host:0": badPort, "host:65536": badPort, "host:smtp": badPort, "host:+25": badPort, "host:-1": badPort,
		"[fd00::25]:0": badPort, "10.20.0.0/16:0": badPort,
		"[1]": "brackets", "[]": "brackets", "[::1]": "brackets", "[::1": "brackets", "[10.0.0.1]:25": "brackets", "[host]:25": "brackets",
		"[fd00::25]25": "brackets", "fd00::25]:1": badAllow, "[[::1]]:25": "brackets", "a:b:c": badAllow,
		"10.20.1.0/16": "write 10.20.0.0/16", "10.20.1.0/16:587": "write 10.20.0.0/16", "fd00::1/8": "write fd00::/8", "[fd00::1/8]:587": "write fd00::/8",
		"10.20.0.0/33": "a prefix", "10.20/16": "a prefix", "10.20.0.0/": "a prefix", "10.20.0.0/016": "a prefix", "host/16": "a prefix",
		"http://host": "expected", "https://host:443/x": "expected", "::ffff:10.0.0.1": "write 10.0.0.1", "::ffff:10.0.0.0/104": "as IPv4's",
		"fe80::1%eth0": "zone", "[fe80::1%eth0]:25": "zone", "*.example.com": "wildcards", "*": "wildcards", "*.example.com:25": "wildcards",
	} {
		if message := allowProblem(entry); message == "" || !strings.Contains(message, want) {
			t.Errorf("%q: %q, want %q", entry, message, want)
		}
	}
}

// A list of a variable may be JSON too; what is wrong in it is told by its place.
func TestEgressFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`10.0.0.0/8, a:25`:          {"10.0.0.0/8", "a:25"},
		`[ "10.0.0.0/8", "a:25" ]`:  {"10.0.0.0/8", "a:25"},
		`[fd00::1]:587,[fd00::2]:1`: {"[fd00::1]:587", "[fd00::2]:1"},
		`[]`:                        {},
		``:                          {},
	} {
		c, _, err := Load(Options{Environ: []string{"PATCHBAY_EGRESS_ALLOW=" + text}})
		if err != nil || strings.Join(c.Egress.Allow, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`[1]`:            "egress.allow[0] (PATCHBAY_EGRESS_ALLOW): expected text; put it in quotes",
		`["a", ["b"]]`:   "egress.allow[1] (PATCHBAY_EGRESS_ALLOW): expected text",
		`["a"`:           "egress.allow[0] (PATCHBAY_EGRESS_ALLOW): brackets are for IPv6 with a port, such as [fd00::25]:587",
		`{"a": "b"}`:     "egress.allow[0] (PATCHBAY_EGRESS_ALLOW): " + badPort,
		`["a", "10.1/"]`: "egress.allow[1] (PATCHBAY_EGRESS_ALLOW): expected a prefix, such as 10.20.0.0/16 or fd00::/8",
	} {
		if _, _, err := Load(Options{Environ: []string{"PATCHBAY_EGRESS_ALLOW=" + text}}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestEgressLoopback(t *testing.T) {
	t.Parallel()
	all := Loopback{All: true}
	for text, want := range map[string]Loopback{
		"true": all, "false": {}, "[2525, 9000]": {Ports: []int{2525, 9000}}, "[1]": {Ports: []int{1}}, "[]": {Ports: []int{}},
	} {
		c, _, err := Load(Options{Path: loopbackFile(t, text)})
		if err != nil || !reflect.DeepEqual(c.Egress.AllowLoopback, want) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		// What the dump says is read as the same.
		again, _, err := Load(Options{Path: loopbackFile(t, inline(reflect.ValueOf(c.Egress.AllowLoopback)))})
		if err != nil || again.Egress.AllowLoopback.All != want.All || len(again.Egress.AllowLoopback.Ports) != len(want.Ports) {
			t.Errorf("%s, dumped: %v", text, err)
		}
	}
	for text, want := range map[string]Loopback{
		"true": all, "1": all, "false": {}, "0": {}, "2525": {Ports: []int{2525}}, "2525, 9000": {Ports: []int{2525, 9000}}, "[2525,1]": {Ports: []int{2525, 1}},
	} {
		c, _, err := Load(Options{Environ: []string{"PATCHBAY_EGRESS_ALLOW_LOOPBACK=" + text}})
		if err != nil || !reflect.DeepEqual(c.Egress.AllowLoopback, want) {
			t.Errorf("%s, by variable: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"yes":     "egress.allow_loopback (x.yaml:1:26): expected true, false or a list of ports",
		"2525":    "egress.allow_loopback (x.yaml:1:26): expected true, false or a list of ports",
		"{a: 1}":  "egress.allow_loopback (x.yaml:1:26): expected true, false or a list of ports",
		"":        "egress.allow_loopback (x.yaml:1:25): expected true, false or a list of ports",
		"[smtp]":  "egress.allow_loopback[0] (x.yaml:1:27): expected a whole number",
		"[25, 0]": "egress.allow_loopback[1] (x.yaml:1:31): " + badPort,
		"[65536]": "egress.allow_loopback[0] (x.yaml:1:27): " + badPort,
	} {
		if _, _, err := Load(Options{Path: loopbackFile(t, text)}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"soon":  "egress.allow_loopback (PATCHBAY_EGRESS_ALLOW_LOOPBACK): expected true, false or a list of ports",
		"70000": "egress.allow_loopback[0] (PATCHBAY_EGRESS_ALLOW_LOOPBACK): " + badPort,
	} {
		if _, _, err := Load(Options{Environ: []string{"PATCHBAY_EGRESS_ALLOW_LOOPBACK=" + text}}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func loopbackFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("egress: {allow_loopback: "+text+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
