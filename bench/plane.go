package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

const (
	vaultResource = "https://vault.azure.net"
	pgResource    = "https://ossrdbms-aad.database.windows.net"
	// secretsUser is Azure's built-in role Key Vault Secrets User.
	secretsUser = "4633458b-17de-408a-b874-0445c86b69e6"
)

// plane is one running `hawser up` with data of its own.
type plane struct {
	b      *bench
	dir    string
	server *server
	client *client.Client
	about  client.Plane
}

// startPlane makes a plane in a new directory, or starts the one that is
// there; it ends with the part.
func (b *bench) startPlane(name string, args ...string) (*plane, error) {
	p := &plane{b: b, dir: filepath.Join(b.dir, name)}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.server, err = serve(p.argv(args...)...); err != nil {
		return nil, err
	}
	b.after(p.server.stop)
	if p.client, err = client.Open(client.Options{Data: p.dir}); err != nil {
		return nil, err
	}
	p.about = p.client.Plane()
	return p, nil
}

func (p *plane) argv(args ...string) []string {
	return append([]string{p.b.hawser, "up", "--data", p.dir, "--listen", "127.0.0.1:0", "--pg", "127.0.0.1:0", "--mysql", "127.0.0.1:0", "--tds", "127.0.0.1:0", "--redis", "127.0.0.1:0",
		"--hosts", "off", "--imds", "off", "--log-level", "warn"}, args...)
}

// cli runs a command against the plane.
func (p *plane) cli(args ...string) (string, error) {
	return p.b.output(append([]string{p.b.hawser}, append(args, "--data", p.dir)...)...)
}

// each runs several commands, until one fails.
func (p *plane) each(commands ...[]string) error {
	for _, c := range commands {
		if _, err := p.cli(c...); err != nil {
			return err
		}
	}
	return nil
}

func (p *plane) id(typ, name string) string {
	return "/subscriptions/" + p.about.SubscriptionID + "/resourceGroups/" + client.DefaultGroup + "/providers/" + typ + "/" + name
}

// vaultLoad is a load on the vault kv1 with requests of these tokens.
func (p *plane) vaultLoad(conns, names int, request func(host, token string) string, tokens ...string) load {
	host := "kv1.vault." + p.about.Domain
	l := load{Addr: p.about.Listen, TLS: host, CA: p.about.CAFile, Names: names, Conns: conns, PIDs: []int{p.server.pid()}}
	_, port, _ := strings.Cut(p.about.Listen, ":")
	for _, t := range tokens {
		l.Requests = append(l.Requests, request(host+":"+port, t))
	}
	return l
}

func readSecret(host, token string) string {
	return get(host, "/secrets/{n}?api-version=7.4", "Authorization: Bearer "+token)
}

const secretValue = "correct horse battery staple, sixty-four characters in all: 12345"

func writeSecret(host, token string) string {
	return send(http.MethodPut, host, "/secrets/{n}?api-version=7.4", "application/json", `{"value":"`+secretValue+`"}`, "Authorization: Bearer "+token)
}

// adminToken is a token of the administrator, as the local socket gives it.
func (p *plane) adminToken(resource string) (string, error) {
	var out struct {
		AccessToken string `json:"accessToken"`
	}
	err := p.client.Do(p.b.ctx, http.MethodPost, "/providers/Hawser.Status/token", map[string]string{"resource": resource}, &out)
	return out.AccessToken, err
}

// app is one app with its identity.
type app struct{ id, principal string }

// makeApps makes n apps with an identity each, many at a time.
func (p *plane) makeApps(prefix string, n int) ([]app, error) {
	apps := make([]app, n)
	g, ctx := errgroup.WithContext(p.b.ctx)
	g.SetLimit(16)
	for i := range apps {
		g.Go(func() error {
			var r struct {
				Identity struct {
					PrincipalID string `json:"principalId"`
				} `json:"identity"`
			}
			id := p.id("Microsoft.Web/sites", prefix+strconv.Itoa(i))
			body := map[string]any{"location": "local", "kind": "app,linux", "identity": map[string]any{"type": "SystemAssigned"}, "properties": map[string]any{}}
			err := p.client.Put(ctx, id, body, &r)
			apps[i] = app{id, r.Identity.PrincipalID}
			return err
		})
	}
	return apps, g.Wait()
}

// admit gives each app the right to read the vault's secrets and returns a
// token of each.
func (p *plane) admit(apps []app, vault string) ([]string, error) {
	tokens := make([]string, len(apps))
	g, ctx := errgroup.WithContext(p.b.ctx)
	g.SetLimit(16)
	for i, a := range apps {
		g.Go(func() error {
			if err := p.client.Put(ctx, vault+"/providers/Microsoft.Authorization/roleAssignments/"+az.NewGUID(), p.assignment(a, secretsUser), nil); err != nil {
				return err
			}
			t, err := p.client.RuntimeToken(ctx, a.id, client.TokenRequest{Resource: vaultResource})
			tokens[i] = t.AccessToken
			return err
		})
	}
	return tokens, g.Wait()
}

func (p *plane) assignment(a app, role string) map[string]any {
	return map[string]any{"properties": map[string]any{"principalId": a.principal, "principalType": "ServicePrincipal",
		"roleDefinitionId": "/subscriptions/" + p.about.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + role}}
}

// makeVault makes kv1 and gives the administrator's token for it.
func (p *plane) makeVault() (id, token string, err error) {
	if _, err := p.cli("vault", "create", "kv1"); err != nil {
		return "", "", err
	}
	token, err = p.adminToken(vaultResource)
	return p.id("Microsoft.KeyVault/vaults", "kv1"), token, err
}

// fill sets the first n secrets.
func (p *plane) fill(n int, token string) (result, error) {
	l := p.vaultLoad(64, n, writeSecret, token)
	l.Each = true
	return p.b.run(l)
}

// credentials are the administrator's, for client_credentials.
func (p *plane) credentials() (clientID, secret string, err error) {
	out, err := p.cli("env", "--json", "--as", "admin")
	if err != nil {
		return "", "", err
	}
	var env struct {
		Admin struct{ ClientID, ClientSecret string } `json:"admin"`
	}
	if err := json.Unmarshal([]byte(out), &env); err != nil {
		return "", "", fmt.Errorf("hawser env: %w", err)
	}
	return env.Admin.ClientID, env.Admin.ClientSecret, nil
}
