package conformance

import (
	"strings"
	"testing"
)

// everySecretOperation is what each language's client prints after it has
// tried all that its library offers. Verification of challenges is on.
const everySecretOperation = `
get second
get-version first text/plain blue true
level Recoverable+Purgeable 90
versions 2
update application/json green 1577934245 2051319845
disabled 403 Forbidden
enabled allowed
list 31
deleted PREFIX-a true
get-deleted 404 SecretNotFound
set-deleted 409 Conflict
list-deleted true
recovered second
purged 404 SecretNotFound
restored second 2
missing 404 SecretNotFound
max allowed
too-big 400 BadParameter`

func TestSecrets(t *testing.T) {
	w := newWorld(t)
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			t.Run("every operation", func(t *testing.T) {
				w.as(t)
				r := w.run("web", nil, e.program("secrets", "managed", w.vaultURL("kv1"), e.name)...)
				lines(t, r, strings.ReplaceAll(everySecretOperation, "PREFIX", e.name))
			})
			t.Run("an identity without a role reads nothing", func(t *testing.T) {
				w.as(t)
				lines(t, w.run("other", nil, e.program("read", "managed", w.vaultURL("kv1"), "plain")...), "get 403 Forbidden")
			})
		})
	}
	t.Run("a role that was taken away counts at once", func(t *testing.T) {
		w.as(t)
		w.assign(secretsUser, "other", w.vault.ID+"/secrets/plain")
		read := func() result {
			return w.run("other", nil, ecosystems[0].program("read", "managed", w.vaultURL("kv1"), "plain")...)
		}
		lines(t, read(), "get "+plainValue)
		w.cli("role", "remove", secretsUser, "--to", "other", "--scope", w.vault.ID+"/secrets/plain")
		lines(t, read(), "get 403 Forbidden")
	})
}
