package directory

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is a name for a certificate, not a proof
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// CredentialKind says how a credential proves who its owner is.
type CredentialKind string

// The kinds of credentials.
const (
	Secret      CredentialKind = "secret"
	Certificate CredentialKind = "certificate"
	Federated   CredentialKind = "federated"
	password    CredentialKind = "password" // of a person; one per owner
)

// Credential is one credential of an application.
type Credential struct {
	ID      string // GUID
	Kind    CredentialKind
	Created az.Micros
	Expires az.Micros // 0: never

	CredentialFacts

	hash []byte
	// X509, SHA1 and SHA256 are of a certificate.
	X509   *x509.Certificate
	SHA1   []byte
	SHA256 []byte
}

// CredentialFacts are what is kept and shown of a credential.
type CredentialFacts struct {
	Name        string    `json:"name,omitempty"`
	Hint        string    `json:"hint,omitempty"` // a secret's first three characters
	Starts      az.Micros `json:"starts,omitempty"`
	DER         []byte    `json:"der,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	Audiences   []string  `json:"audiences,omitempty"`
	Description string    `json:"description,omitempty"`
	// Principal marks a secret that was added to the service principal and not
	// to the application: both prove the same client, and each shows its own.
	Principal bool `json:"principal,omitempty"`
}

const (
	// SecretLength is the length of a generated client secret, as Entra's.
	SecretLength = 40
	// DefaultSecretLife is Graph's default for addPassword.
	DefaultSecretLife = 2 * 365 * 24 * time.Hour
	// maxCredentials bounds the credentials of a kind: each is compared with
	// at every sign-in. Source: Entra allows 20 federated ones.
	maxCredentials = 20
	// startSkew is how far the clock of the plane that made a secret may be
	// ahead of the one where it is used first.
	startSkew = 5 * time.Minute
)

// secretAlphabet is what Entra's generated secrets use: all of it survives a
// form, a shell and a connection string unquoted. Its 64 characters take six
// bits each without bias.
const secretAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// randomText returns n characters of the alphabet. The first is a letter or a
// digit: command lines take a value that begins with a dash for a flag.
func randomText(n int) string {
	b := make([]byte, n)
	for {
		_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
		for i := range b {
			b[i] = secretAlphabet[b[i]&63]
		}
		if b[0] != '_' && b[0] != '-' {
			return string(b)
		}
	}
}

const hashPurpose = "client secret"

// secretHash binds a secret to its owner, so that a row moved to another
// application proves nothing.
func (d *Directory) secretHash(owner, secret string) []byte {
	return d.cfg.Sealer.Hash(hashPurpose, []byte(owner+"\x00"+secret))
}

// AddSecret makes a client secret for an application. The text is shown once:
// only its keyed hash is stored.
func (d *Directory) AddSecret(tx *store.Tx, application, name string, starts, expires az.Micros) (*Credential, az.Secret, error) {
	return d.addSecret(tx, application, CredentialFacts{Name: name, Starts: starts}, expires)
}

func (d *Directory) addSecret(tx *store.Tx, application string, f CredentialFacts, expires az.Micros) (*Credential, az.Secret, error) {
	name, starts := f.Name, f.Starts
	if err := checkText("displayName", name, maxName); err != nil {
		return nil, az.Secret{}, err
	}
	if starts == 0 {
		starts = tx.Now()
	}
	if expires == 0 {
		expires = az.MicrosOf(starts.Time().Add(DefaultSecretLife))
	}
	if expires <= starts {
		return nil, az.Secret{}, az.Errorf(az.Invalid, "Request_BadRequest", "The credential's endDateTime must lie after its startDateTime.")
	}
	text := randomText(SecretLength)
	c := &Credential{ID: az.NewGUID(), Kind: Secret, Expires: expires,
		CredentialFacts: CredentialFacts{Name: name, Hint: text[:3], Starts: starts, Principal: f.Principal}, hash: d.secretHash(application, text)}
	if err := putCredential(tx, application, c); err != nil {
		return nil, az.Secret{}, err
	}
	return c, az.NewSecret(text), nil
}

// SecretState is what MatchSecret found.
type SecretState int

// The results of MatchSecret.
const (
	SecretWrong SecretState = iota
	SecretExpired
	SecretRight
)

// MatchSecret says whether a secret is one of the client's. A nil client costs
// the same as one whose secrets do not match.
func (d *Directory) MatchSecret(c *Client, secret string) SecretState {
	owner := "00000000-0000-0000-0000-000000000000"
	var list []*Credential
	if c != nil && c.Application != nil {
		owner, list = c.Application.ID, c.Credentials
	}
	h := d.secretHash(owner, secret)
	now := az.MicrosOf(d.cfg.Clock())
	begun := az.MicrosOf(now.Time().Add(startSkew))
	state := SecretWrong
	for _, cr := range list {
		if cr.Kind != Secret || !hmac.Equal(h, cr.hash) {
			continue
		}
		if begun >= cr.Starts && (cr.Expires == 0 || now < cr.Expires) {
			state = SecretRight
		} else if state == SecretWrong {
			state = SecretExpired
		}
	}
	return state
}

// AddCertificate lets an application prove itself by a certificate's key. der
// may also be PEM. Its own dates bound it.
func (d *Directory) AddCertificate(tx *store.Tx, application, name string, der []byte) (*Credential, error) {
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, az.Errorf(az.Invalid, "KeyCredentialsInvalidKey", "The key credential is not an X.509 certificate in DER or PEM form.")
	}
	if err := checkPublicKey(cert.PublicKey); err != nil {
		return nil, err
	}
	if name == "" {
		name = cert.Subject.String()
	}
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName])
	}
	c := &Credential{ID: az.NewGUID(), Kind: Certificate, Expires: az.MicrosOf(cert.NotAfter),
		CredentialFacts: CredentialFacts{Name: name, Starts: az.MicrosOf(cert.NotBefore), DER: cert.Raw}}
	c.readCertificate(cert)
	if old, err := tx.Credentials(application); err != nil {
		return nil, err
	} else if same := findCertificate(old, cert.Raw); same != "" {
		c.ID = same
	}
	return c, putCredential(tx, application, c)
}

func findCertificate(list []store.Credential, der []byte) (id string) {
	for _, r := range list {
		if c, err := credentialFromRow(r); err == nil && c.Kind == Certificate && bytes.Equal(c.DER, der) {
			return c.ID
		}
	}
	return ""
}

// checkPublicKey admits keys that client assertions may be signed with.
// Source: RFC 7518 §3.3 (RSA of 2048 bits or more) and §3.4 (P-256).
func checkPublicKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 && k.E >= 3 {
			return nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	}
	return az.Errorf(az.Invalid, "KeyCredentialsInvalidKey", "The certificate's key must be RSA of 2048 to 8192 bits or ECDSA on P-256.")
}

func (c *Credential) readCertificate(cert *x509.Certificate) {
	s1, s256 := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw) //nolint:gosec // see the import
	c.X509, c.SHA1, c.SHA256 = cert, s1[:], s256[:]
}

// maxFederatedText bounds issuer and subject. Source: Entra limits both to 600
// characters.
const maxFederatedText = 600

// CheckFederated checks the parts of a federated identity credential. The
// issuer is fetched from, so it must be an https URL with a host.
func CheckFederated(issuer, subject string, audiences []string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(issuer) > maxFederatedText {
		return az.Errorf(az.Invalid, "BadRequest", "The property 'issuer' must be an https URL without user, query and fragment, of at most %d characters.", maxFederatedText)
	}
	if subject == "" || len(subject) > maxFederatedText {
		return az.Errorf(az.Invalid, "BadRequest", "The property 'subject' must be given and have at most %d characters.", maxFederatedText)
	}
	if len(audiences) != 1 || audiences[0] == "" || len(audiences[0]) > maxFederatedText {
		return az.Errorf(az.Invalid, "BadRequest", "The property 'audiences' must hold exactly one value, such as api://AzureADTokenExchange.")
	}
	return nil
}

// AddFederated trusts an outside issuer's tokens for an application.
func (d *Directory) AddFederated(tx *store.Tx, application string, f CredentialFacts) (*Credential, error) {
	if err := CheckFederated(f.Issuer, f.Subject, f.Audiences); err != nil {
		return nil, err
	}
	if err := checkName("federated identity credential", f.Name); err != nil {
		return nil, err
	}
	if err := checkText("description", f.Description, maxFederatedText); err != nil {
		return nil, err
	}
	if err := federatedTwin(tx, application, "", f); err != nil {
		return nil, err
	}
	c := &Credential{ID: az.NewGUID(), Kind: Federated, CredentialFacts: f}
	return c, putCredential(tx, application, c)
}

// federatedTwin refuses a second credential with the same name, or the same
// issuer and subject; but is the one that is being changed.
func federatedTwin(tx *store.Tx, application, but string, f CredentialFacts) error {
	old, err := tx.Credentials(application)
	if err != nil {
		return err
	}
	for _, r := range old {
		o, err := credentialFromRow(r)
		if err != nil {
			return err
		}
		if o.Kind == Federated && o.ID != but && (strings.EqualFold(o.Name, f.Name) || o.Issuer == f.Issuer && o.Subject == f.Subject) {
			return az.Errorf(az.Conflict, "Request_MultipleObjectsWithSameKeyValue",
				"The application has a federated identity credential with this name, or with this issuer and subject, already.")
		}
	}
	return nil
}

// updateFederated writes a federated identity credential that was changed.
func (d *Directory) updateFederated(tx *store.Tx, application string, c *Credential) error {
	if err := CheckFederated(c.Issuer, c.Subject, c.Audiences); err != nil {
		return err
	}
	if err := checkText("description", c.Description, maxFederatedText); err != nil {
		return err
	}
	if err := federatedTwin(tx, application, c.ID, c.CredentialFacts); err != nil {
		return err
	}
	return putCredential(tx, application, c)
}

func putCredential(tx *store.Tx, owner string, c *Credential) error {
	old, err := tx.Credentials(owner)
	if err != nil {
		return err
	}
	n := 0
	for _, o := range old {
		if o.Kind == string(c.Kind) && o.ID != c.ID {
			n++
		}
	}
	if n >= maxCredentials {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The object has %d credentials of this kind already; remove one first.", maxCredentials)
	}
	b, err := json.Marshal(c.CredentialFacts)
	if err != nil {
		return fmt.Errorf("cannot write a credential: %w", err)
	}
	c.Created = tx.Now()
	return tx.PutCredential(store.Credential{Owner: owner, ID: c.ID, Kind: string(c.Kind), Hash: c.hash, Body: b, Expires: c.Expires})
}

func credentialFromRow(r store.Credential) (*Credential, error) {
	c := &Credential{ID: r.ID, Kind: CredentialKind(r.Kind), Created: r.Created, Expires: r.Expires, hash: r.Hash}
	if err := json.Unmarshal(r.Body, &c.CredentialFacts); err != nil {
		return nil, fmt.Errorf("cannot read credential %s: %w", r.ID, err)
	}
	if c.Kind == Certificate {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, fmt.Errorf("cannot read credential %s: %w", r.ID, err)
		}
		c.readCertificate(cert)
	}
	return c, nil
}

func (d *Directory) credentials(ctx context.Context, owner string) ([]*Credential, error) {
	rows, err := d.store.Credentials(ctx, owner)
	if err != nil {
		return nil, err
	}
	out := make([]*Credential, 0, len(rows))
	for _, r := range rows {
		c, err := credentialFromRow(r)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Thumbprint returns a certificate's SHA-1 as Graph shows it
// (customKeyIdentifier).
func (c *Credential) Thumbprint() string { return base64.StdEncoding.EncodeToString(c.SHA1) }
