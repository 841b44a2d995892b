package run

import (
	"context"
	"time"

	"github.com/hawser/hawser/client"
)

const (
	// pollTop bounds the wait between tries while the plane is away, so that a
	// change made just after its restart arrives soon.
	pollTop = 2 * time.Second
	// pollFloor is the least time between two answers without a change: a
	// plane that does not hold the request must not be hammered.
	pollFloor = 500 * time.Millisecond
)

// watch asks the plane for changes until the context ends and sends each new
// environment; a newer one replaces one that was not taken yet. While the
// plane is away the app keeps running with what it has.
func (s *session) watch(ctx context.Context, env *client.Environment, changes chan *client.Environment) {
	b := backoff{top: pollTop}
	etag := env.ETag
	for ctx.Err() == nil {
		asked := time.Now()
		rctx, cancel := context.WithTimeout(ctx, (client.MaxWait+15)*time.Second)
		next, err := s.Client.RuntimeEnvironment(rctx, s.siteID, etag, client.MaxWait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if b.n == 0 {
				s.Logger.Warn("cannot ask the plane for changes: the app keeps running", "error", err)
			}
			sleep(ctx, b.next())
			continue
		case next.Unchanged || next.ETag == etag:
			sleep(ctx, pollFloor-time.Since(asked))
		default:
			etag = next.ETag
			if err := s.openDoors(ctx, next); err != nil {
				s.Logger.Warn("the app's databases keep the ports they had", "error", err)
			}
			select {
			case <-changes:
			default:
			}
			changes <- next // one sender, capacity one, just emptied: never blocks
		}
		if b.n > 0 {
			s.Logger.Info("the plane answers again")
			b.reset()
		}
	}
}
