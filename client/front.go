package client

import "context"

// Upstream says where a process of an app listens, so that the plane's front
// can pass requests on to it.
type Upstream struct {
	ID      string `json:"id"`      // of the run, a GUID
	Address string `json:"address"` // http://host:port or https://host:port
	Machine string `json:"machine"` // whose loopback the address is on
	Remove  bool   `json:"remove"`
}

// Front is what the plane answers: where browsers find the app, and whether
// people must sign in there.
type Front struct {
	URL            string `json:"url"`
	Authentication bool   `json:"authentication"`
}

// Announce registers a process of an app, says that it is still there, or
// takes it out again.
func (c *Client) Announce(ctx context.Context, siteID string, u Upstream) (Front, error) {
	var f Front
	err := c.Action(ctx, siteID, "upstream", u, &f)
	return f, err
}

// AuthRequest says how built-in authentication is to be switched on. Empty
// fields keep what there is.
type AuthRequest struct {
	Action string `json:"action"` // redirect, 401, 403 or allow
	Scope  string `json:"scope"`  // of the sign-in
}

// EnableAuth switches an app's built-in authentication on: registration,
// client secret and settings, whatever of it is missing.
func (c *Client) EnableAuth(ctx context.Context, siteID string, r AuthRequest) (clientID string, err error) {
	var out struct {
		ClientID string `json:"clientId"`
	}
	err = c.Action(ctx, siteID, "enableAuth", r, &out)
	return out.ClientID, err
}
