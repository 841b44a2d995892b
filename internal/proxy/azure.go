package proxy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/hawser/hawser/internal/az"
)

const (
	// tokenEarly is how long before its end a token is fetched anew: Azure's
	// databases take a login a few minutes to come to.
	tokenEarly = 5 * time.Minute
	// tokenLast is how long a token is used on when no new one is to be had.
	tokenLast = 30 * time.Second
	tokenTime = 30 * time.Second // for one request, its retries with it
)

// AzureCredential is what the environment has, looked for as Azure's SDKs do:
// AZURE_… variables, workload identity, managed identity, az. With a client id
// it is that user-assigned identity. Nothing is asked for yet.
func AzureCredential(clientID string) (azcore.TokenCredential, error) {
	if clientID != "" {
		c, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(clientID)})
		if err != nil {
			return nil, fmt.Errorf("cannot use the identity %s: %w", clientID, err)
		}
		return c, nil
	}
	c, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot use the environment's credential: %w", err)
	}
	return c, nil
}

// kept is a source that keeps its token until near its end.
type kept struct {
	credential azcore.TokenCredential
	audience   string
	clock      az.Clock

	mu    sync.Mutex // guards both; held over a request, so that many logins make one
	token az.Secret
	ends  time.Time
}

// sourceOf makes a source of a credential; it is asked when the first program
// comes.
func sourceOf(c azcore.TokenCredential, audience string, clock az.Clock) Source {
	return (&kept{credential: c, audience: audience, clock: clock}).get
}

func (k *kept) get(ctx context.Context) (az.Secret, time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.ends.Sub(k.clock())
	if left > tokenEarly {
		return k.token, k.ends, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	t, err := k.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{strings.TrimSuffix(k.audience, "/") + "/.default"}})
	if err != nil {
		if left > tokenLast {
			return k.token, k.ends, nil
		}
		return az.Secret{}, time.Time{}, err
	}
	k.token, k.ends = az.NewSecret(t.Token), t.ExpiresOn
	return k.token, k.ends, nil
}
