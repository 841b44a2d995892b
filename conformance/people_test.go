package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// person is somebody in the directory.
type person struct {
	ID       string `json:"id"`
	Name     string `json:"displayName"`
	UPN      string `json:"userPrincipalName"`
	Password string `json:"password"`
	Secret   string `json:"secret"` // of one-time codes, in base32; "" for none
}

// password is long enough for the plane and nobody's real one.
const password = "correct horse battery staple 1!"

// people makes persons by Graph, as an administrator's script would.
func (p *plane) people(names ...string) []person {
	p.t.Helper()
	var all []person
	for _, name := range names {
		one := person{Name: name, UPN: strings.ToLower(name) + "@" + p.env.Domain, Password: password}
		p.graph(p.t, http.MethodPost, "/users", map[string]any{
			"accountEnabled": true, "displayName": name, "mailNickname": strings.ToLower(name), "userPrincipalName": one.UPN,
			"passwordProfile": map[string]any{"password": password, "forceChangePasswordNextSignIn": false},
		}, &one)
		one.Password = password
		all = append(all, one)
	}
	return all
}

// group makes a security group with members.
func (p *plane) group(name string, members ...string) string {
	p.t.Helper()
	var g struct{ ID string }
	p.graph(p.t, http.MethodPost, "/groups", map[string]any{"displayName": name, "mailEnabled": false, "mailNickname": name, "securityEnabled": true}, &g)
	for _, m := range members {
		p.join(g.ID, m)
	}
	return g.ID
}

func (p *plane) join(group, member string) {
	p.t.Helper()
	p.graph(p.t, http.MethodPost, "/groups/"+group+"/members/$ref",
		map[string]string{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + member}, nil)
}

func (p *plane) leave(group, member string) {
	p.t.Helper()
	p.graph(p.t, http.MethodDelete, "/groups/"+group+"/members/"+member+"/$ref", nil, nil)
}

// application is a registration with its service principal and a secret.
type application struct {
	ID      string `json:"id"`
	AppID   string `json:"appId"`
	Service string `json:"-"` // the service principal's object id
	Secret  string `json:"-"`
}

// register makes an application from Graph's own words for it.
func (p *plane) register(name string, facts map[string]any) application {
	p.t.Helper()
	body := map[string]any{"displayName": name, "signInAudience": "AzureADMyOrg"}
	for k, v := range facts {
		body[k] = v
	}
	var a application
	p.graph(p.t, http.MethodPost, "/applications", body, &a)
	var sp struct{ ID string }
	p.graph(p.t, http.MethodPost, "/servicePrincipals", map[string]string{"appId": a.AppID}, &sp)
	a.Service = sp.ID
	var secret struct{ SecretText string }
	p.graph(p.t, http.MethodPost, "/applications/"+a.ID+"/addPassword", map[string]any{"passwordCredential": map[string]string{"displayName": "test"}}, &secret)
	a.Secret = secret.SecretText
	return a
}

// consent is an administrator's, for everybody.
func (p *plane) consent(client, resource, scopes string) {
	p.t.Helper()
	p.graph(p.t, http.MethodPost, "/oauth2PermissionGrants",
		map[string]string{"clientId": client, "consentType": "AllPrincipals", "resourceId": resource, "scope": scopes}, nil)
}

// servicePrincipal finds one by its application's id.
func (p *plane) servicePrincipal(appID string) string {
	p.t.Helper()
	var page struct{ Value []struct{ ID string } }
	p.graph(p.t, http.MethodGet, "/servicePrincipals?$filter=appId%20eq%20'"+appID+"'", nil, &page)
	if len(page.Value) != 1 {
		p.t.Fatalf("%d service principals have the application id %s", len(page.Value), appID)
	}
	return page.Value[0].ID
}

// databaseLogin is the role that lets a principal in at the gateway.
const databaseLogin = "PostgreSQL Login"

const graphAppID = "00000003-0000-0000-c000-000000000000"

// delegated is a scope as an application offers it; roleOf is an app role.
func delegated(id int, value string) map[string]any {
	return map[string]any{"id": fmt.Sprintf("5c0e0000-0000-4000-8000-%012d", id), "value": value, "type": "User", "isEnabled": true,
		"adminConsentDisplayName": value, "adminConsentDescription": "Lets the app " + value + " for the signed-in person.",
		"userConsentDisplayName": "Let it " + value, "userConsentDescription": "Lets the app " + value + " for you."}
}

func appRole(id int, value string, kinds ...string) map[string]any {
	return map[string]any{"id": fmt.Sprintf("401e0000-0000-4000-8000-%012d", id), "value": value, "displayName": value, "description": value,
		"isEnabled": true, "allowedMemberTypes": kinds}
}

// graphAs is graph with somebody's token, for what may be refused.
func (p *plane) graphAs(token, method, path string, in any) (status int, body []byte) {
	p.t.Helper()
	var content io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			p.t.Fatal(err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "https://graph."+p.env.Domain+":"+p.port()+"/v1.0"+path, content)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.caller(p.t).Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err = io.ReadAll(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestPeopleAreThere: what the other tests make by Graph, people find at a
// shell.
func TestPeopleAreThere(t *testing.T) {
	p := start(t)
	ann := p.people("Ann")[0]
	p.group("sales", ann.ID)
	if list := p.cli("user", "list"); !strings.Contains(list, ann.UPN) {
		t.Errorf("hawser user list:\n%s", list)
	}
	if list := p.cli("group", "list"); !strings.Contains(list, "sales") {
		t.Errorf("hawser group list:\n%s", list)
	}
}

// mapRole gives somebody, or a group, a role of a database server, and the
// right to log in with it.
func (p *plane) mapRole(server, role, oid, database, access string) {
	p.t.Helper()
	id := "/subscriptions/" + p.env.SubscriptionID + "/resourceGroups/hawser/providers/Microsoft.DBforPostgreSQL/flexibleServers/" + server
	body := map[string]any{"properties": map[string]string{"roleName": role, "principalId": oid, "database": database, "access": access}}
	if err := p.arm().Put(p.t.Context(), id+"/principals/"+role, body, nil); err != nil {
		p.t.Fatal(err)
	}
	p.assign(databaseLogin, oid, id)
}

// TestDeveloper: somebody signs in with az, by a code on another screen; what
// every language's default credential then opens is what that person may.
func TestDeveloper(t *testing.T) {
	w := newWorld(t, "--domain", "dev.localhost", "--hosts", "auto")
	ann := w.people("Ann")[0]
	db := w.attach("pg1")
	w.assign(secretsUser, ann.ID, w.vault.ID)
	w.assign("Reader", ann.ID, "/subscriptions/"+w.env.SubscriptionID)
	team := "team_" + db.name
	w.mapRole("pg1", team, w.group("team", ann.ID), db.name, "read")
	settings := t.TempDir()
	host, port, _ := strings.Cut(w.env.Gateways["pg"], ":")
	connection := "host=" + host + " port=" + port + " dbname=" + db.name + " user=" + ann.UPN + " sslmode=require options='endpoint=pg1'"
	env := []string{"AZURE_CONFIG_DIR=" + settings, "AZURE_CORE_COLLECT_TELEMETRY=no",
		"AZURE_POSTGRESQL_CONNECTIONSTRING=" + connection, "AZURE_POSTGRESQL_HOST=pg1.postgres." + w.env.Domain, "AZURE_POSTGRESQL_USER=" + ann.UPN,
		"AZURE_POSTGRESQL_DATABASE=" + db.name, "AZURE_POSTGRESQL_PORT=" + port, "AZURE_POSTGRESQL_SSL=true"}
	if r := w.withEnv(env, nil, hawser, "az-setup", "--data", w.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	w.azLogin(t, env, ann)
	who := w.withEnv(env, nil, "az", "account", "show", "--query", "user.[name,type]", "--output", "tsv", "--only-show-errors")
	lines(t, who, ann.UPN+"\nuser")
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			lines(t, w.withEnv(env, nil, e.program("read", "default", w.vaultURL("kv1"), "plain")...), "get "+plainValue)
			lines(t, w.withEnv(env, nil, e.program("database", "default", "things")...),
				"who "+ann.UPN+" "+db.name+"\nselect ok\ninsert 42501\ncreate 42501\nbecome 42501")
		})
	}
}

// azLogin signs somebody in to az, who types its code at another screen.
func (p *plane) azLogin(t *testing.T, env []string, who person) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "az", "login", "--use-device-code", "--tenant", p.env.TenantID, "--output", "none")
	cmd.Env = append(append(clean(t), "REQUESTS_CA_BUNDLE="+p.env.CABundle), env...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, approved := &tail{}, false
	for l := bufio.NewScanner(out); l.Scan(); {
		_, _ = said.Write(append(l.Bytes(), '\n'))
		if m := deviceMessage.FindStringSubmatch(l.Text()); m != nil && !approved {
			approved = true
			v := p.visit(who)
			v.Code = m[2]
			if err := v.arrive(m[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !approved {
		t.Fatalf("az login: %v\n%s", err, said)
	}
}

// deviceMessage is how az, and MSAL, say it.
var deviceMessage = regexp.MustCompile(`open the page (\S+) and enter the code (\S+) to authenticate`)
