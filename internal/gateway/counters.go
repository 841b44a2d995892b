package gateway

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// counters are a gate's figures for Prometheus.
type counters struct {
	set         *metrics.Set
	protocol    string
	connections *metrics.Counter
	logins      *metrics.Counter
	sent        *metrics.Counter
	received    *metrics.Counter
}

func newCounters(set *metrics.Set, protocol string, g *Gate) counters {
	name := func(what string) string { return fmt.Sprintf("hawser_gateway_%s{protocol=%q}", what, protocol) }
	set.GetOrCreateGauge(name("sessions"), func() float64 { return float64(g.open()) })
	return counters{set: set, protocol: protocol,
		connections: set.GetOrCreateCounter(name("connections_total")),
		logins:      set.GetOrCreateCounter(name("logins_total")),
		sent:        set.GetOrCreateCounter(name("sent_bytes_total")),
		received:    set.GetOrCreateCounter(name("received_bytes_total")),
	}
}

// Refused counts a connection that was turned away, by one of a few fixed
// reasons.
func (g *Gate) Refused(reason string) {
	g.counts.set.GetOrCreateCounter(fmt.Sprintf("hawser_gateway_refused_total{protocol=%q,reason=%q}", g.protocol, reason)).Inc()
}
