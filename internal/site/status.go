package site

import (
	"context"
	"errors"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/vault"
)

// Status is how the resolving of a reference went; the words are those of
// App Service's ApiKVReference.
type Status string

// The statuses. This plane resolves when it is asked, so Initialized is what
// a reference has only before anything looked at it.
const (
	Initialized            Status = "Initialized"
	Resolved               Status = "Resolved"
	InvalidSyntax          Status = "InvalidSyntax"
	MSINotEnabled          Status = "MSINotEnabled"
	VaultNotFound          Status = "VaultNotFound"
	SecretNotFound         Status = "SecretNotFound"
	SecretVersionNotFound  Status = "SecretVersionNotFound"
	AccessToKeyVaultDenied Status = "AccessToKeyVaultDenied"
	OtherReasons           Status = "OtherReasons"
	FetchTimedOut          Status = "FetchTimedOut"
	UnauthorizedClient     Status = "UnauthorizedClient"
)

// statusOf turns a vault's refusal into a status and a sentence for the owner
// of the app. ctx is the reference's own: its deadline is FetchTimedOut.
func statusOf(ctx context.Context, err error, r Reference, identity string) (Status, string) {
	var e *az.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return FetchTimedOut, "The vault did not answer in time. It is tried again while the app runs."
	}
	if !errors.As(err, &e) {
		return OtherReasons, "The secret could not be read. The plane's log says why."
	}
	switch e.Kind {
	case az.NotFound, az.Gone:
		return notFoundStatus(e, r)
	case az.Forbidden:
		return AccessToKeyVaultDenied, deniedDetails(e, r, identity)
	case az.Unauthorized:
		return UnauthorizedClient, "The identity " + identity + " is disabled or no longer exists."
	case az.TooMany:
		return OtherReasons, "The vault '" + r.Vault + "' is throttling. It is tried again while the app runs."
	case az.Unavailable:
		return OtherReasons, "The vault could not be reached. It is tried again while the app runs."
	}
	return OtherReasons, "The secret could not be read. The plane's log says why."
}

func deniedDetails(e *az.Error, r Reference, identity string) string {
	switch {
	case e.Code == vault.CodeDisabled:
		return "The secret '" + r.Secret + "' of the vault '" + r.Vault + "' is disabled. Enable it, or set a new version."
	case e.Inner == "AccessDenied":
		return "The vault '" + r.Vault + "' has no access policy that lets the identity " + identity + " read secrets."
	}
	return "The identity " + identity + " may not read secrets of the vault '" + r.Vault + "'. Assign it the role 'Key Vault Secrets User' there."
}

func notFoundStatus(e *az.Error, r Reference) (Status, string) {
	switch e.Code {
	case vault.CodeVaultNotFound:
		return VaultNotFound, "There is no vault '" + r.Vault + "' on this plane."
	case vault.CodeSecretVersionNotFound:
		return SecretVersionNotFound, "The secret '" + r.Secret + "' of the vault '" + r.Vault + "' has no version " + r.Version + "."
	}
	return SecretNotFound, "The vault '" + r.Vault + "' has no secret '" + r.Secret + "'."
}
