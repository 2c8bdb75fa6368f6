// Package egress is the one way from Patchbay to a host that a tenant typed. SMTP,
// HTTP, S3 and OAuth2 dial through a [Dialer]; internal/arch holds that nobody
// dials such a host otherwise. Hosts that the operator configured (Postgres, Redis,
// Vault, an issuer's keys) are dialled by their own packages, and are what a tenant
// must not reach through this one.
//
// It imports package fault and nothing else of the project. egresstest has the
// address forms, planted servers and DNS server that any dialler is tested with.
//
// # What is decided, and when
//
// A name is looked up once per dial, every address found is judged, and the sockets
// are opened to those addresses; at the socket the address is compared and judged
// again. So a name that changes its mind between a check and a dial gains nothing,
// and each redirect, retry and new connection is judged anew. In order:
//
//  1. The sidecar's own servers and listeners (Config.Deny, Config.DenyHosts,
//     Config.Own): never.
//  2. Loopback ports that Config.AllowLoopback or AnyLoopback names: allowed. It is
//     the only exception to the next rule, and covers loopback addresses alone.
//  3. Loopback, link-local, metadata servers, multicast, broadcast, unspecified:
//     never, also where an IPv6 form embeds such an IPv4 address (mapped,
//     compatible, translated, NAT64, 6to4, Teredo, ISATAP).
//  4. Config.Allow: allowed. A name there opens the private addresses of that name;
//     they have passed the rules above as addresses.
//  5. What is not public: closed. Private, shared, documentation, benchmark and
//     reserved ranges; in IPv6 everything outside 2000::/3 and IANA's special ranges
//     inside it. The tables are those of code.dny.dev/ssrf, generated from IANA's
//     registries; its policy is one list where the operator's entry wins, so the
//     rules above are ours. NAT64's well-known prefix is judged as the IPv4 address
//     in it: a network of IPv6 alone has no other way to public IPv4.
//  6. The rest is public: allowed, at any port but 0. Ports are not a policy here:
//     SMTP relays and S3 servers of tenants listen wherever they like.
//
// Where a name has several addresses, one that is never dialled condemns the name:
// no honest name has a metadata server beside its own. Addresses that are merely
// closed are left out: a dual-stack host with an address of its own site is common,
// and only judged addresses are dialled.
//
// Everything fails closed: an address that can't be parsed or has a zone, a network
// that isn't TCP, a resolver's error. Where an own server's name can't be resolved,
// nothing is dialled at its port.
//
// # Names
//
// A host is an address in its one strict form or a DNS name, lower-cased, mapped by
// IDNA's lookup profile, without a final dot. Names that end in a number (decimal,
// octal or hexadecimal) are refused: Go takes them for names, C and browsers for
// addresses. localhost and what is below it is loopback without a look-up (RFC
// 6761). Other names are not judged by their letters: metadata.google.internal
// leads to an address that is. Names are looked up as absolute ones, so that
// "vault.default" does not mean the cluster's; those that the operator lists are
// looked up as written, search list included.
//
// # What a tenant learns
//
// No error's text names an address that was found: it is one of three fixed
// sentences, or a network error with the host as it was typed. [Detail] has the
// rest, for the operator's log. Below the suffixes of the public DNS "does not
// resolve" is told apart from "denied" ([ErrResolve]): anybody may ask there, and a
// typing error deserves its hint. Any other name that does not resolve (vault,
// db.corp, x.svc.cluster.local) is denied like one that does, so that nobody lists
// what an internal resolver knows. A connection that is refused or times out is
// told only of addresses that the policy opens; nothing else is ever tried.
//
// Denials differ in time, by the look-up. Whoever reports one to a tenant answers
// no sooner than one [Floor] after the request began, and at a whole number of
// them: [WaitFloor]. The dialler itself doesn't wait: a token's refresh would pay.
//
// # Not promised
//
//   - A name under a public suffix that only an internal resolver knows can be told
//     from one that nobody knows. Rate limits of tests bound the guessing.
//   - A NAT64 gateway at a network's own prefix inside 2000::/3 is not recognised; it
//     must itself refuse to lead to private addresses.
//   - Public addresses that the network leads inside (a load balancer with hairpin
//     NAT) are public. Config.Deny is for the sidecar's own; a NetworkPolicy for the
//     rest.
//   - A kept HTTP connection stays where it was allowed to go.
package egress
