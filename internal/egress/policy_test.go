package egress

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The edges of every range: its first and last address, and the neighbours.
func TestJudgeRanges(t *testing.T) {
	t.Parallel()
	p := newDialer(t, Config{}).policy
	for addrs, want := range map[string]verdict{
		// Hard.
		"0.0.0.0 0.255.255.255":                 never,
		"127.0.0.0 127.0.0.1 127.255.255.255":   never,
		"169.254.0.0 169.254.255.255":           never,
		"224.0.0.0 239.255.255.255":             never,
		"255.255.255.255":                       never,
		"100.100.100.200 168.63.129.16":         never,
		"192.0.0.192":                           never,
		":: ::1":                                never,
		"fe80:: febf:ffff::1":                   never,
		"ff00:: ffff::1":                        never,
		"fd00:ec2:: fd00:ec2:ffff::1":           never,
		"fd00:ec2::254 fd00:ec2::23":            never,
		"fd20:ce::254 fd00:42::42":              never,
		"fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1":  never,
		"::ffff:127.0.0.1 ::ffff:169.254.1.1":   never,
		"::ffff:0.0.0.0 ::ffff:168.63.129.16":   never,
		"::127.0.0.1 ::ffff:0:127.0.0.1":        never,
		"64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe": never,
		"64:ff9b:1:7f00:0:100::":                never, // RFC 6052 /48
		"64:ff9b:1:7f:0:1::":                    never, // /56
		"64:ff9b:1:0:7f:0:100:0":                never, // /64
		"64:ff9b:1::127.0.0.1":                  never, // /96
		"2002:7f00:1:: 2002:a9fe:a9fe:1::1":     never,
		"2001:0:7f00:1::":                       never, // Teredo's server
		"2001:0:808:808::80ff:fffe":             never, // Teredo's client
		"2606:4700::5efe:7f00:1":                never, // ISATAP
		"2606:4700::200:5efe:7f00:1":            never,
		// Closed by default.
		"10.0.0.0 10.255.255.255":                         closed,
		"100.64.0.0 100.127.255.255":                      closed,
		"172.16.0.0 172.31.255.255":                       closed,
		"192.0.0.0 192.0.0.255":                           closed,
		"192.0.2.0 192.0.2.255":                           closed,
		"192.88.99.0 192.88.99.255":                       closed,
		"192.168.0.0 192.168.255.255":                     closed,
		"198.18.0.0 198.19.255.255":                       closed,
		"198.51.100.0 198.51.100.255":                     closed,
		"203.0.113.0 203.0.113.255":                       closed,
		"240.0.0.0 255.255.255.254":                       closed,
		"::2.0.0.1 ::8.8.8.8":                             closed,
		"::ffff:10.0.0.1 ::ffff:0:8.8.8.8":                closed,
		"64:ff9b::10.0.0.1 64:ff9b:1::808:808":            closed,
		"100::1 1fff:ffff::1":                             closed,
		"2001:0:808:808::f7f7:f7f7":                       closed,
		"2001:1ff:ffff::1 2001:10::1":                     closed,
		"2001:20::1 2001:db8::1 2001:db8:ffff::1":         closed,
		"2002:808:808::1 2002:a00:1::":                    closed,
		"3fff::1 3fff:fff:ffff::1":                        closed,
		"4000:: 5f00::1 8000::1 e000::1":                  closed,
		"fc00:: fc00::1 fdff:ffff::1 fd00:ec1::1":         closed,
		"fec0::1 feff::1":                                 closed,
		"2606:4700::5efe:a00:1 2606:4700::200:5efe:a00:1": closed,
		// Public.
		"1.0.0.1 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0":      allowed,
		"100.63.255.255 100.128.0.0":                          allowed,
		"126.255.255.255 128.0.0.0":                           allowed,
		"168.63.129.15 168.63.129.17":                         allowed,
		"169.253.255.255 169.255.0.0":                         allowed,
		"172.15.255.255 172.32.0.0":                           allowed,
		"191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0":     allowed,
		"192.167.255.255 192.169.0.0":                         allowed,
		"198.17.255.255 198.20.0.0":                           allowed,
		"223.255.255.255":                                     allowed,
		"2000:: 2001:200::1 2606:4700:4700::1111":             allowed,
		"2003::1 3ffe::1":                                     allowed,
		"::ffff:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::101:101":    allowed,
		"2606:4700::5efe:808:808 2606:4700::1:5efe:7f00:1":    allowed,
		"2a00:1450:4001:80b::200e 2001:4860:4860::8888":       allowed,
		"2002:: 2001:: 64:ff9b::":                             never, // of 0.0.0.0
		"2001:0:a00:1::f7f7:f7f7":                             closed,
		"2606:4700::5efe:a9fe:a9fe 2606:4700::5efe:6464:64c8": never,
	} {
		for text := range strings.FieldsSeq(addrs) {
			if v, why := p.judge(netip.MustParseAddr(text), 443, false); v != want {
				t.Errorf("%s: %d (%s), want %d", text, v, why, want)
			}
		}
	}
	for name, a := range map[string]netip.Addr{
		"nothing": {}, "a zone": netip.MustParseAddr("2606:4700::1%eth0"), "a zone on loopback": netip.MustParseAddr("::1%lo"),
	} {
		if v, _ := newDialer(t, Config{AnyLoopback: true, Allow: []string{"::/0"}}).policy.judge(a, 443, true); v != never {
			t.Errorf("%s: %d", name, v)
		}
	}
	if v, _ := p.judge(netip.MustParseAddr("8.8.8.8"), 0, true); v != never {
		t.Error("port 0 is dialled")
	}
}

func TestJudgePolicy(t *testing.T) {
	t.Parallel()
	everything := []string{"0.0.0.0/0", "::/0"}
	deny := func(texts ...string) (all []netip.AddrPort) {
		for _, s := range texts {
			all = append(all, netip.MustParseAddrPort(s))
		}
		return all
	}
	for name, row := range map[string]struct {
		config Config
		at     string
		named  bool
		want   verdict
	}{
		"an allowed prefix":                       {Config{Allow: []string{"10.20.0.0/16"}}, "10.20.3.4:9000", false, allowed},
		"beside it":                               {Config{Allow: []string{"10.20.0.0/16"}}, "10.21.0.0:9000", false, closed},
		"an allowed prefix, its port":             {Config{Allow: []string{"10.20.0.0/16:587"}}, "10.20.3.4:587", false, allowed},
		"an allowed prefix, another port":         {Config{Allow: []string{"10.20.0.0/16:587"}}, "10.20.3.4:25", false, closed},
		"an allowed address":                      {Config{Allow: []string{"10.20.0.1"}}, "10.20.0.1:1", false, allowed},
		"an allowed address, mapped":              {Config{Allow: []string{"10.20.0.1"}}, "[::ffff:10.20.0.1]:1", false, allowed},
		"an allowed address, NAT64":               {Config{Allow: []string{"10.20.0.1"}}, "[64:ff9b::10.20.0.1]:1", false, allowed},
		"an allowed address, 6to4":                {Config{Allow: []string{"10.20.0.1"}}, "[2002:a14:1::1]:1", false, closed},
		"an allowed address of IPv6":              {Config{Allow: []string{"[fd00::25]:587"}}, "[fd00::25]:587", false, allowed},
		"an allowed prefix of IPv6, another port": {Config{Allow: []string{"[fd00::/8]:587"}}, "[fd00::25]:25", false, closed},
		"a name's private address":                {Config{}, "10.0.0.1:587", true, allowed},
		"a name's loopback":                       {Config{}, "127.0.0.1:587", true, never},
		"a name's metadata":                       {Config{}, "169.254.169.254:80", true, never},
		"a name's link-local":                     {Config{}, "[fe80::1]:80", true, never},
		"everything, loopback":                    {Config{Allow: everything}, "127.0.0.1:80", false, never},
		"everything, loopback of IPv6":            {Config{Allow: everything}, "[::1]:80", false, never},
		"everything, unspecified":                 {Config{Allow: everything}, "0.0.0.0:80", false, never},
		"everything, metadata":                    {Config{Allow: everything}, "168.63.129.16:80", false, never},
		"everything, metadata of IPv6":            {Config{Allow: everything}, "[fd00:ec2::254]:80", false, never},
		"everything, NAT64 of metadata":           {Config{Allow: everything}, "[64:ff9b::a9fe:a9fe]:80", false, never},
		"a network's own NAT64":                   {Config{Allow: []string{"64:ff9b:1::/96"}}, "[64:ff9b:1::808:808]:80", false, allowed},
		"its loopback":                            {Config{Allow: []string{"64:ff9b:1::/48"}}, "[64:ff9b:1::7f00:1]:80", false, never},
		"everything, reserved":                    {Config{Allow: everything}, "240.0.0.1:80", false, allowed},
		"a loopback port":                         {Config{AllowLoopback: []uint16{2525}}, "127.0.0.1:2525", false, allowed},
		"a loopback port of IPv6":                 {Config{AllowLoopback: []uint16{2525}}, "[::1]:2525", false, allowed},
		"a loopback port, mapped":                 {Config{AllowLoopback: []uint16{2525}}, "[::ffff:127.0.0.1]:2525", false, allowed},
		"a loopback port, NAT64":                  {Config{AllowLoopback: []uint16{2525}}, "[64:ff9b::127.0.0.1]:2525", false, never},
		"a loopback port, unspecified":            {Config{AllowLoopback: []uint16{2525}}, "0.0.0.0:2525", false, never},
		"a loopback port, link-local":             {Config{AllowLoopback: []uint16{2525}}, "169.254.169.254:2525", false, never},
		"another loopback port":                   {Config{AllowLoopback: []uint16{2525}}, "127.0.0.1:2526", false, never},
		"any loopback":                            {Config{AnyLoopback: true}, "127.9.9.9:1", false, allowed},
		"any loopback, unspecified":               {Config{AnyLoopback: true}, "[::]:1", false, never},
		"any loopback, private":                   {Config{AnyLoopback: true}, "10.0.0.1:1", false, closed},
		"own, over any loopback":                  {Config{AnyLoopback: true, Deny: deny("127.0.0.1:8200")}, "127.0.0.1:8200", false, never},
		"own, another loopback":                   {Config{AnyLoopback: true, Deny: deny("127.0.0.1:8200")}, "[::1]:8200", false, never},
		"own, another port":                       {Config{AnyLoopback: true, Deny: deny("127.0.0.1:8200")}, "127.0.0.1:8201", false, allowed},
		"own, everywhere":                         {Config{AnyLoopback: true, Deny: deny("[::]:8080")}, "127.0.0.1:8080", false, never},
		"own, over the allow-list":                {Config{Allow: everything, Deny: deny("10.0.0.5:5432")}, "10.0.0.5:5432", false, never},
		"own, mapped":                             {Config{Allow: everything, Deny: deny("10.0.0.5:5432")}, "[::ffff:10.0.0.5]:5432", false, never},
		"own, given mapped":                       {Config{Allow: everything, Deny: deny("[::ffff:10.0.0.5]:5432")}, "10.0.0.5:5432", false, never},
		"own, NAT64":                              {Config{Allow: everything, Deny: deny("10.0.0.5:5432")}, "[64:ff9b::10.0.0.5]:5432", false, never},
		"own, under an allowed name":              {Config{Deny: deny("10.0.0.5:5432")}, "10.0.0.5:5432", true, never},
		"own, public":                             {Config{Deny: deny("8.8.8.8:443")}, "8.8.8.8:443", false, never},
		"own, every port":                         {Config{Deny: deny("8.8.8.8:0")}, "8.8.8.8:25", false, never},
		"own, as a host":                          {Config{DenyHosts: []string{"8.8.8.8:443"}}, "8.8.8.8:443", false, never},
		"own, as a host without port":             {Config{DenyHosts: []string{"8.8.8.8"}}, "8.8.8.8:1", false, never},
		"own, a Unix socket":                      {Config{DenyHosts: []string{"/run/redis.sock", "@redis"}}, "8.8.8.8:1", false, allowed},
		"own, as localhost":                       {Config{AnyLoopback: true, DenyHosts: []string{"localhost:8200"}}, "[::1]:8200", false, never},
	} {
		p := newDialer(t, row.config).policy
		at := netip.MustParseAddrPort(row.at)
		if v, why := p.judge(at.Addr(), at.Port(), row.named); v != row.want {
			t.Errorf("%s: %d (%s), want %d", name, v, why, row.want)
		}
	}
}

func TestNewNamesBadEntries(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", " ", "*", "*.example.com", "10.0.0.0/33", "10.20.1.0/16", "::ffff:10.0.0.0/104", "fe80::1%eth0", "host:0", "host:65536", "host:smtp",
		"host:", ":25", "127.1", "0x7f.1", "2130706433", "[10.0.0.1]:25", "[fd00::1", "[fd00::1]25", "[fd00::1]:", "[fd00::1]:0", "http://host",
		"host/path", "a..b", "user@host", "a b",
	} {
		if _, err := New(Config{Allow: []string{"fine.example", bad}}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), bad) {
			t.Errorf("allow %q: %v", bad, err)
		}
		if _, err := New(Config{DenyHosts: []string{bad}}); !errors.Is(err, ErrMalformed) {
			t.Errorf("deny %q: %v", bad, err)
		}
	}
	for name, c := range map[string]Config{
		"a prefix as own server": {DenyHosts: []string{"10.0.0.0/8"}}, "no address": {Deny: []netip.AddrPort{{}}}, "loopback port 0": {AllowLoopback: []uint16{0}},
	} {
		if _, err := New(c); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := newDialer(t, Config{Allow: []string{
		"10.20.0.0/16", "[fd00::25]:587", "[fd00::25]", "fd00::/8", "MAIL.Corp.example:587", "mail.corp.example.", "my_minio:9000", "0.0.0.0/0",
		"127.0.0.1", "127.0.0.0/8:25", "169.254.169.254:80", "localhost:25", "[::1]:25",
	}})
	if got, want := d.Ineffective(), []string{"127.0.0.1", "127.0.0.0/8:25", "169.254.169.254:80", "localhost:25", "[::1]:25"}; !slices.Equal(got, want) {
		t.Errorf("open nothing: %q, want %q", got, want)
	}
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"Mail.Example.COM": "mail.example.com", "mail.example.com.": "mail.example.com", "bücher.example": "xn--bcher-kva.example",
		"BÜCHER.example": "xn--bcher-kva.example", "straße.example": "xn--strae-oqa.example", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"例え。テスト": "xn--r8jz45g.xn--zckzah", "ｍａｉｌ．example": "mail.example", "my_minio": "my_minio", "_dmarc.a-b.example": "_dmarc.a-b.example",
		"3com.example": "3com.example", "1.example": "1.example", "r3---sn-abc.example": "r3---sn-abc.example", "0xg.example": "0xg.example",
		"x.0xg": "x.0xg", "8.8.8.8": "8.8.8.8", "8.8.8.8.": "8.8.8.8", "８．８．８．８": "8.8.8.8", "::ffff:8.8.8.8": "8.8.8.8", "2606:4700::1111": "2606:4700::1111",
		strings.Repeat("a", 63) + ".example": strings.Repeat("a", 63) + ".example",
	} {
		got, err := parseHost(host)
		text := got.name
		if got.addr.IsValid() {
			text = got.addr.String()
		}
		if err != nil || text != want {
			t.Errorf("%q: %q, %v, want %q", host, text, err, want)
		}
	}
	for _, host := range []string{
		"", ".", "..", "a..b", ".a", "a..", "-a.example", "a-.example", "a b", "a/b", "a\\b", "a@b", "a:b", "a%b", "a?b", "a#b", "a\x00b", "a\nb", "[::1]",
		"::1%lo", "fe80::1%25eth0", "1", "256.1.1.1", "1.2.3.4.5", "01.2.3.4", "1.2.3.08", "0x", "x.0x", "x.0xff", "x.1", "x.08", "１", "0x7F.1", "x.0X1",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "aa", strings.Repeat("ü", 600), "xn--a", "xn--\u00fc", "\xff.example", "a\u200d.example",
		"１::１", "：：１",
	} {
		if got, err := parseHost(host); !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v, %v", host, got, err)
		}
	}
}

func TestIsPublicName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"smtp.example.com": true, "a.co.uk": true, "x.github.io": true, "nosuch.invalid": true, "mail.corp.example": true, "a.xn--p1ai": true,
		"vault": false, "vault.default.svc": false, "vault.default.svc.cluster.local": false, "metadata.google.internal": false,
		"mail.corp": false, "nas.lan": false, "db.test": false,
	} {
		if got := isPublicName(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A server that listens on every address is denied on each of the machine's.
func TestOwnListenerOnEveryAddress(t *testing.T) {
	t.Parallel()
	p := newDialer(t, Config{
		Allow: []string{"0.0.0.0/0", "::/0"}, AnyLoopback: true, Deny: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:8080")},
	}).policy
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range own {
		prefix, err := netip.ParsePrefix(n.String())
		if err != nil {
			t.Fatal(err)
		}
		a := prefix.Addr()
		if v, why := p.judge(a, 8080, false); v != never {
			t.Errorf("%s: %d (%s)", a, v, why)
		}
		if v, why := p.judge(a, 8081, false); v != allowed && !a.IsLinkLocalUnicast() {
			t.Errorf("%s, another port: %d (%s)", a, v, why)
		}
	}
	if v, _ := p.judge(netip.MustParseAddr("10.99.99.99"), 8080, false); v != allowed {
		t.Error("another machine's address is taken for our own")
	}
}
