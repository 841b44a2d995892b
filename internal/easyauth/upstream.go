package easyauth

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// Heartbeat is how often a process of an app says that it is there.
	Heartbeat = 10 * time.Second
	// staleAfter is when one that has not said so is passed over.
	staleAfter = 35 * time.Second
	// maxProcesses bounds an app's processes.
	maxProcesses = 100
	maxAddress   = 256
)

// Process is what a run says of the process it has started.
type Process struct {
	ID      string `json:"id"`      // of the run, a GUID
	Address string `json:"address"` // http://host:port or https://host:port
	Machine string `json:"machine"` // whose loopback the address is on
	Remove  bool   `json:"remove"`
}

// Announcer is where an announcement came from.
type Announcer struct {
	Local bool       // over this plane's local socket
	From  netip.Addr // the address of the connection's other end
}

// Announce notes where a process of an app listens, or that it has ended. The
// caller's right was checked. Loopback addresses are taken from this machine
// only, and others without TLS only from the very address: what this plane can
// reach is not for others to reach through it.
func (f *Front) Announce(ctx context.Context, site az.ID, p Process, by Announcer) error {
	if !az.IsGUID(p.ID) {
		return bad("The property id must be a GUID.")
	}
	if p.Remove {
		return f.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteUpstream(site.Key(), strings.ToLower(p.ID)) })
	}
	loopback, err := checkAddress(p.Address)
	if err != nil {
		return err
	}
	if !loopback && !by.Local && !by.at(p.Address) {
		return az.Errorf(az.Invalid, "UpstreamNotReachable", "An http address is taken only from a program that has this address itself. Run hawser there, or give an https address: --upstream-address https://host:port.")
	}
	up := store.Upstream{Site: site.Key(), ID: strings.ToLower(p.ID), Address: p.Address}
	if loopback {
		if !by.Local || p.Machine != "" && p.Machine != f.cfg.Machine {
			return az.Errorf(az.Invalid, "UpstreamNotReachable", "The address %s is on this program's own machine, where the plane cannot reach it. Give an address that it can: --upstream-address https://host:port.", p.Address)
		}
		up.Machine = f.cfg.Machine
	}
	stale := az.MicrosOf(f.cfg.Clock().Add(-staleAfter))
	return f.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.PutUpstream(up, stale, maxProcesses) })
}

// at reports whether an address may be a process's own as far as one can see:
// https proves itself when it is dialled, by its certificate.
func (by Announcer) at(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "https" {
		return err == nil
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && by.From.IsValid() && ip.Unmap().WithZone("") == by.From.Unmap().WithZone("")
}

// checkAddress says what may be passed on to. A host name is looked at again
// when it is dialled.
func checkAddress(address string) (loopback bool, err error) {
	refuse := bad("The address of the app must be http://host:port or https://host:port, without path, of this machine's loopback or of a network that the plane can reach.")
	u, perr := url.Parse(address)
	if perr != nil || len(address) > maxAddress || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.Port() == "" || u.Port() == "0" {
		return false, refuse
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		return true, nil
	}
	if ip, perr := netip.ParseAddr(host); perr == nil {
		if ip.Unmap().IsLoopback() {
			return true, nil
		}
		if !farAddress(ip.Unmap()) || u.Scheme == "http" && !private(ip.Unmap()) {
			return false, refuse
		}
		return false, nil
	}
	if u.Scheme == "http" {
		return false, bad("An address with a host name must be https, since the app's requests carry people's tokens; http is taken for loopback and for private network addresses (10.0.0.0/8 …).")
	}
	return false, nil
}

// private are networks in which some send what they would not send over the
// open one. Source: RFC 1918, RFC 4193, RFC 6598.
func private(ip netip.Addr) bool {
	return ip.IsPrivate() || shared.Contains(ip)
}

var shared = netip.MustParsePrefix("100.64.0.0/10")

// notApps are networks in which no app is: clouds' metadata and host services
// (AWS, Alibaba, Azure, Oracle), what IPv4 addresses hide behind (RFC 6052, RFC
// 3056, RFC 4291 §2.5.5.1), and reserved ones (RFC 6890).
var notApps = []netip.Prefix{netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4")}

// farAddress refuses what is this machine's own loopback, or its host's
// metadata.
func farAddress(ip netip.Addr) bool {
	for _, p := range notApps {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.IsValid() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsLinkLocalMulticast() && !ip.IsMulticast() && !ip.IsUnspecified() &&
		!ip.IsInterfaceLocalMulticast()
}

// nearOnly and farOnly look at the address that is really dialled: what a name
// stands for can change after it was registered.
func nearOnly(_, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not on loopback", address)
	}
	return nil
}

func farOnly(_, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !farAddress(ap.Addr().Unmap()) || ownAddress(ap.Addr().Unmap()) {
		return fmt.Errorf("%s is no address of the network", address)
	}
	return nil
}

// ownAddress reports whether an address is this machine's: what comes from the
// machine itself passes firewalls, as what comes over loopback does. If nobody
// can say, it is.
func ownAddress(ip netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip.WithZone("") {
			return true
		}
	}
	return false
}

func dialControl(check func(network, address string) error) func(string, string, syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error { return check(network, address) }
}

// processes lists where an app can be reached from here, the best first.
func (f *Front) processes(ctx context.Context, site az.ID) ([]store.Upstream, error) {
	all, _, err := f.upstreams.get(site.Key(), func() ([]store.Upstream, bool, error) {
		all, err := f.cfg.Store.Upstreams(ctx, site.Key())
		return all, len(all) > 0, err
	})
	if err != nil {
		return nil, err
	}
	since := az.MicrosOf(f.cfg.Clock().Add(-staleAfter))
	var out []store.Upstream
	elsewhere := false
	for _, u := range all {
		switch {
		case u.Seen < since:
		case u.Machine != "" && u.Machine != f.cfg.Machine:
			elsewhere = true
		default:
			out = append(out, u)
		}
	}
	if len(out) == 0 && elsewhere {
		return nil, errElsewhere
	}
	if n := len(out); n > 1 { // the load goes round
		k := int(f.turn.Add(1) % uint64(n))
		out = append(out[k:n:n], out[:k]...)
	}
	return out, nil
}
