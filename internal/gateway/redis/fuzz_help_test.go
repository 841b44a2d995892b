package redis

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// refuseAll verifies no token.
func refuseAll(context.Context, az.Secret) (az.Principal, error) {
	return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token")
}
