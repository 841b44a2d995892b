package site

import (
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

var testNames = az.Names{Domain: "hawser.test", Port: "8443", Tenant: "11111111-1111-4111-8111-111111111111",
	Subscription: "22222222-2222-4222-8222-222222222222", ChallengeTenant: az.AliasTenant}

const testVersion = "0123456789abcdef0123456789ABCDEF"

func TestParseReference(t *testing.T) {
	lower := strings.ToLower(testVersion)
	for _, c := range []struct {
		in   string
		want Reference
	}{
		{"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1)", Reference{"kv1", "s1", ""}},
		{"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1/)", Reference{"kv1", "s1", ""}},
		{"@Microsoft.KeyVault(SecretUri=https://KV1.vault.azure.net:443//secrets/s1/" + testVersion + ")", Reference{"kv1", "s1", lower}},
		{"@microsoft.keyvault(secreturi=HTTPS://kv1.vault.hawser.test:8443/secrets/S1/" + testVersion + "/)", Reference{"kv1", "S1", lower}},
		{"@Microsoft.KeyVault(SecretUri=https://kv1.vault.hawser.test/secrets/s1)", Reference{"kv1", "s1", ""}},
		{"@Microsoft.KeyVault(SecretUri=https://kv1.vault.usgovcloudapi.net/secrets/s1)", Reference{"kv1", "s1", ""}},
		{"@Microsoft.KeyVault(VaultName=KV1;SecretName=s1)", Reference{"kv1", "s1", ""}},
		{"@Microsoft.KeyVault( vaultname = kv1 ; SECRETNAME=s1 ; SecretVersion=" + testVersion + " ;)", Reference{"kv1", "s1", lower}},
		{"@Microsoft.KeyVault(SecretVersion=;SecretName=s1;VaultName=kv1)", Reference{"kv1", "s1", ""}},
	} {
		if !looksLikeReference(c.in) {
			t.Errorf("%s is not taken for a reference", c.in)
			continue
		}
		if got, no := parseReference(c.in, testNames); no != nil || got != c.want {
			t.Errorf("%s gives %v, %v; want %v", c.in, got, no, c.want)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for in, want := range map[string]Status{
		"@Microsoft.KeyVault(":                                                                                 InvalidSyntax,
		"@Microsoft.KeyVault()":                                                                                InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=)":                                                                      InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1)":                                                                   InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=s1":                                                      InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=s1) ":                                                    InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=s1)x":                                                    InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;VaultName=kv2;SecretName=s)":                                        InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=s;Color=red)":                                            InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=a/b)":                                                    InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=k;SecretName=s)":                                                        InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=a--b;SecretName=s)":                                                     InvalidSyntax,
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=s;SecretVersion=latest)":                                 InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1;VaultName=kv1)":                  InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=http://kv1.vault.azure.net/secrets/s1)":                                 InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://u:p@kv1.vault.azure.net/secrets/s1)":                            InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1?x=1)":                            InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1#x)":                              InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s%2f1)":                             InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/keys/s1)":                                   InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets)":                                   InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1/" + testVersion + "/x)":          InvalidSyntax,
		"@Microsoft.KeyVault(SecretUri=https://evil.example/secrets/s1)":                                       VaultNotFound,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net.evil.example/secrets/s1)":                   VaultNotFound,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net:9999/secrets/s1)":                           VaultNotFound,
		"@Microsoft.KeyVault(SecretUri=https://login.hawser.test/secrets/s1)":                                  VaultNotFound,
		"@Microsoft.KeyVault(SecretUri=https://a.b.vault.hawser.test/secrets/s1)":                              VaultNotFound,
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/" + strings.Repeat("s", 2000) + ")": InvalidSyntax,
	} {
		r, no := parseReference(in, testNames)
		if no == nil || no.status != want || no.reason == "" || r != (Reference{}) {
			t.Errorf("%s gives %v, %+v; want %s", in, r, no, want)
		}
	}
	for _, in := range []string{"", "x", "@Microsoft.KeyVault", "see @Microsoft.KeyVault(VaultName=kv1;SecretName=s1)", " @Microsoft.KeyVault(VaultName=kv1;SecretName=s1)"} {
		if looksLikeReference(in) {
			t.Errorf("%q is literal text, not a reference", in)
		}
	}
}

// FuzzReference checks that whatever is accepted names a vault and a secret by
// Key Vault's rules, and that writing it out again gives the same.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"SecretUri=https://kv1.vault.azure.net/secrets/s1/" + testVersion, "VaultName=kv1;SecretName=s1;SecretVersion=", ";;=;",
		"SecretUri=https://[::1]:8443/secrets/a", "SecretUri=https://kv1.vault.azure.net:/secrets//s1//"} {
		f.Add(referenceOpen + s + ")")
	}
	f.Fuzz(func(t *testing.T, in string) {
		if !looksLikeReference(in) {
			return
		}
		r, no := parseReference(in, testNames)
		if no != nil {
			if no.status != InvalidSyntax && no.status != VaultNotFound || r != (Reference{}) {
				t.Fatalf("%q is refused with %v %v", in, no, r)
			}
			return
		}
		if !validVaultName(r.Vault) || !validSecretName(r.Secret) || (r.Version != "" && !validVersion(r.Version)) {
			t.Fatalf("%q gives %+v", in, r)
		}
		again := referenceOpen + "SecretUri=" + testNames.VaultURL(r.Vault) + "secrets/" + r.Secret + "/" + r.Version + ")"
		if r2, no := parseReference(again, testNames); no != nil || r2 != r {
			t.Fatalf("%q gives %+v, but %q gives %+v %v", in, r, again, r2, no)
		}
	})
}
