package authority

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

// byAssertion proves a client by a signed assertion.
func (a *Authority) byAssertion(_ context.Context, _ *tokenRequest, _ *directory.Client) error {
	return oauthError(az.Unauthorized, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application.")
}
