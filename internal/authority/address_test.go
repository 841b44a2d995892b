package authority

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
)

func TestIssuersMayNotBeLocalServices(t *testing.T) {
	for address, ok := range map[string]bool{
		"10.0.0.1:443": true, "[fd12::1]:443": true, "[64:ff9b::a00:1]:443": true, "203.0.113.1:443": true,
		"169.254.169.254:443": false, "[::ffff:169.254.169.254]:443": false, "[64:ff9b::a9fe:a9fe]:443": false,
		"[fe80::1%eth0]:443": false, "0.0.0.0:443": false, "[::]:443": false, "[fd00:ec2::254]:443": false, "100.100.100.200:443": false, "x:443": false,
	} {
		if err := refuseLocalServices("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A guesser with an IPv6 network is one peer, not 2^64.
func TestThrottleCountsNetworks(t *testing.T) {
	now := time.Now()
	th := newThrottle(func() time.Time { return now }, maxFailures, maxPeerFailures)
	for i := range maxFailures {
		th.note("client", fmt.Sprintf("2001:db8:1:2::%x", i+1))
	}
	if err := th.check("client", "2001:db8:1:2:ffff::1"); !az.Is(err, az.TooMany) {
		t.Errorf("from the same network: %v", err)
	}
	if err := th.check("client", "2001:db8:1:3::1"); err != nil {
		t.Errorf("from another network: %v", err)
	}
	for i := range maxFailures {
		th.note("client", fmt.Sprintf("::ffff:192.0.2.%d", i+1))
	}
	if err := th.check("client", "192.0.2.200"); err != nil {
		t.Errorf("from another IPv4 address: %v", err)
	}
}
