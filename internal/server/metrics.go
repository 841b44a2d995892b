package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// reply is what replies are counted by. Surfaces and routes come from the
// tables and statuses are few, so there are few of them.
type reply struct {
	surface, route string
	status         int
}

// counted is where one kind of reply is counted.
type counted struct {
	number *metrics.Counter
	took   *metrics.Histogram
}

// served counts a reply. The metrics are looked up by their long names once.
func (s *Server) served(surface, route string, status int, took time.Duration) {
	k := reply{surface, route, status}
	v, ok := s.replies.Load(k)
	if !ok {
		v, _ = s.replies.LoadOrStore(k, &counted{
			s.set.GetOrCreateCounter(fmt.Sprintf(`hawser_http_requests_total{surface=%q,route=%q,status="%d"}`, surface, route, status)),
			s.set.GetOrCreateHistogram(fmt.Sprintf(`hawser_http_request_duration_seconds{surface=%q}`, surface)),
		})
	}
	c := v.(*counted)
	c.number.Inc()
	c.took.Update(took.Seconds())
}

func writeProcessMetrics(w http.ResponseWriter) { metrics.WriteProcessMetrics(w) }
