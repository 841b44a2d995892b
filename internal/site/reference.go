package site

import (
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Reference is a setting's value that names a secret of a vault.
type Reference struct {
	Vault   string // lower case
	Secret  string // as written
	Version string // lower case; "" for the newest
}

// refused says why a value that looks like a reference is none, or names
// nothing that this plane has.
type refused struct {
	status Status
	reason string
}

const (
	referenceOpen  = "@Microsoft.KeyVault("
	referenceClose = ")"
	// appConfigurationOpen begins the other kind of reference that App Service
	// knows. It is recognised so that the app's owner is told.
	appConfigurationOpen = "@Microsoft.AppConfiguration("
	// maxReference bounds what is parsed: a vault host, a secret's name of at
	// most 127 and a version of 32 characters are far below it.
	maxReference = 1024
)

// looksLikeReference reports whether a value is meant as a Key Vault
// reference. A reference is a whole value; one inside other text is literal,
// as on App Service.
func looksLikeReference(value string) bool { return hasPrefixFold(value, referenceOpen) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// parseReference reads both forms, SecretUri=… and VaultName=…;SecretName=….
// The value must look like a reference.
func parseReference(value string, names az.Names) (Reference, *refused) {
	if len(value) > maxReference {
		return Reference{}, badSyntax("the reference is longer than a reference can be")
	}
	body, closed := strings.CutSuffix(value[len(referenceOpen):], referenceClose)
	if !closed {
		return Reference{}, badSyntax("it must end with ) and nothing may follow")
	}
	fields, no := referenceFields(body)
	if no != nil {
		return Reference{}, no
	}
	if uri, ok := fields["secreturi"]; ok {
		if len(fields) > 1 {
			return Reference{}, badSyntax("SecretUri stands alone: the uri names vault, secret and version")
		}
		return parseSecretURI(uri, names)
	}
	r := Reference{Vault: fields["vaultname"], Secret: fields["secretname"], Version: fields["secretversion"]}
	if r.Vault == "" || r.Secret == "" {
		return Reference{}, badSyntax("it needs SecretUri, or VaultName and SecretName")
	}
	return r.checked()
}

// referenceFields splits key=value;key=value. Keys are folded.
func referenceFields(body string) (map[string]string, *refused) {
	fields := make(map[string]string, 3)
	for part := range strings.SplitSeq(body, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, badSyntax("each part must have the form Key=value")
		}
		switch key {
		case "secreturi", "vaultname", "secretname", "secretversion":
		default:
			return nil, badSyntax("the keys are SecretUri, or VaultName, SecretName and SecretVersion")
		}
		if _, twice := fields[key]; twice {
			return nil, badSyntax("a key stands in it twice")
		}
		fields[key] = strings.TrimSpace(value)
	}
	return fields, nil
}

// parseSecretURI reads https://{vault host}/secrets/{name}[/][{version}]. The
// host must be a vault's, under this plane's name or Azure's: the plane asks
// no other server.
func parseSecretURI(uri string, names az.Names) (Reference, *refused) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawPath != "" {
		return Reference{}, badSyntax("SecretUri must have the form https://{vault}/secrets/{name}/{version}")
	}
	if !strings.EqualFold(u.Scheme, "https") {
		return Reference{}, badSyntax("SecretUri must begin with https://")
	}
	host := names.Classify(u.Host)
	if host.Surface != az.SurfaceVault || strings.Contains(host.Name, ".") || (u.Port() != "" && u.Port() != "443" && u.Port() != names.Port) {
		return Reference{}, &refused{VaultNotFound, "the host of SecretUri is not a vault of this plane"}
	}
	segs := strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })
	if len(segs) < 2 || len(segs) > 3 || !strings.EqualFold(segs[0], "secrets") {
		return Reference{}, badSyntax("the path of SecretUri must be /secrets/{name} or /secrets/{name}/{version}")
	}
	r := Reference{Vault: host.Name, Secret: segs[1]}
	if len(segs) == 3 {
		r.Version = segs[2]
	}
	return r.checked()
}

// checked applies the name rules of Key Vault (wire/keyvault.md §9), so that
// nothing else reaches the vault.
func (r Reference) checked() (Reference, *refused) {
	switch {
	case !validVaultName(r.Vault):
		return Reference{}, badSyntax("the vault's name must be 3 to 24 letters, digits and dashes")
	case !validSecretName(r.Secret):
		return Reference{}, badSyntax("the secret's name must be 1 to 127 letters, digits and dashes")
	case r.Version != "" && !validVersion(r.Version):
		return Reference{}, badSyntax("the version must be 32 hexadecimal digits")
	}
	return Reference{strings.ToLower(r.Vault), r.Secret, strings.ToLower(r.Version)}, nil
}

func badSyntax(reason string) *refused { return &refused{InvalidSyntax, reason} }

func validVaultName(s string) bool {
	return len(s) >= 3 && len(s) <= 24 && isLetter(s[0]) && !strings.HasSuffix(s, "-") &&
		!strings.Contains(s, "--") && only(s, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' })
}

func validSecretName(s string) bool {
	return len(s) >= 1 && len(s) <= 127 && only(s, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' })
}

func validVersion(s string) bool {
	return len(s) == 32 && only(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' })
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func only(s string, ok func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
