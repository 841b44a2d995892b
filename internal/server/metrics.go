package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// served counts a reply. Routes come from the tables, so there are few.
func (s *Server) served(surface, route string, status int, took time.Duration) {
	s.set.GetOrCreateCounter(fmt.Sprintf(`hawser_http_requests_total{surface=%q,route=%q,status="%d"}`, surface, route, status)).Inc()
	s.set.GetOrCreateHistogram(fmt.Sprintf(`hawser_http_request_duration_seconds{surface=%q}`, surface)).Update(took.Seconds())
}

func writeProcessMetrics(w http.ResponseWriter) { metrics.WriteProcessMetrics(w) }
