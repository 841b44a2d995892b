package conformance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKill9 kills the plane again and again while secrets, role assignments
// and settings are written. Nothing that was acknowledged may be missing, and
// the audit log's chain must hold.
func TestKill9(t *testing.T) {
	rounds := 100
	if v := os.Getenv(roundsVar); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("%s must be a number", roundsVar)
		}
		rounds = n
	}
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, "--store", s.url(t))
			k := &killer{w: w, t: t, admin: w.token(vaultScope, ""), arm: w.token(armScope, "")}
			k.role = k.secretsUser()
			for round := range rounds {
				k.round(round)
			}
			k.check()
			w.stop()
			t.Logf("%d kills, %d acknowledged writes, none missing", rounds, len(k.secrets)+len(k.assignments)+k.settings)
		})
	}
}

type killer struct {
	w          *world
	t          *testing.T
	admin, arm string // the administrator's tokens
	role       string // id of a role definition

	mu          sync.Mutex        // guards what was acknowledged
	secrets     map[string]string // name → value
	assignments []string          // ids
	setting     int               // newest acknowledged value of COUNT
	tried       int               // newest value of COUNT that was sent
	settings    int               // how many were acknowledged
}

// secretsUser finds the id of a role without rights over anything else.
func (k *killer) secretsUser() string {
	k.t.Helper()
	var all []struct {
		ID         string `json:"id"`
		Properties struct {
			RoleName string `json:"roleName"`
		} `json:"properties"`
	}
	k.w.json(&all, "role", "list")
	for _, r := range all {
		if r.Properties.RoleName == secretsUser {
			return r.ID
		}
	}
	k.t.Fatalf("there is no role %s", secretsUser)
	return ""
}

// round writes from several clients at once, kills the plane at some moment,
// starts it again and looks at the newest of what was acknowledged.
func (k *killer) round(n int) {
	k.t.Helper()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i, write := range []func(c *http.Client, n int) bool{k.putSecret, k.putSecret, k.putAssignment, k.putSetting} {
		writers.Go(func() {
			c := k.w.caller(k.t)
			defer c.CloseIdleConnections()
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				if !write(c, n*1_000_000+i*100_000+j) {
					return // the plane is gone
				}
			}
		})
	}
	time.Sleep(time.Duration(50+rand.IntN(150)) * time.Millisecond)
	k.w.kill()
	close(stop)
	writers.Wait()
	k.w.boot()
	k.spotCheck()
}

func (k *killer) putSecret(c *http.Client, n int) bool {
	name, value := fmt.Sprintf("k%d", n), fmt.Sprintf("value %d %s", n, strings.Repeat("v", rand.IntN(2000)))
	body, _ := json.Marshal(map[string]string{"value": value})
	status, _ := k.w.send(k.t, c, http.MethodPut, "kv1.vault."+domain, "/secrets/"+name+"?api-version=7.4", k.admin, string(body))
	if status != "200" {
		return k.refused("a secret", status)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secrets == nil {
		k.secrets = map[string]string{}
	}
	k.secrets[name] = value
	return true
}

func (k *killer) putAssignment(c *http.Client, n int) bool {
	id := fmt.Sprintf("%s/secrets/k%d/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-%012d", k.w.vault.ID, n, n)
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":%q,"principalId":%q,"principalType":"ServicePrincipal"}}`, k.role, k.w.other.Identity.PrincipalID)
	status, _ := k.w.send(k.t, c, http.MethodPut, "management."+domain, id+"?api-version=2022-04-01", k.arm, body)
	if status != "201" && status != "200" {
		return k.refused("an assignment", status)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.assignments = append(k.assignments, id)
	return true
}

// putSetting counts up in one setting: only its last writer is known.
func (k *killer) putSetting(c *http.Client, _ int) bool {
	k.mu.Lock()
	k.tried++
	n := k.tried
	k.mu.Unlock()
	status, _ := k.w.send(k.t, c, http.MethodPut, "management."+domain, k.w.other.ID+"/config/appsettings?api-version=2022-03-01", k.arm,
		fmt.Sprintf(`{"properties":{"COUNT":"%d"}}`, n))
	if status != "200" {
		return k.refused("a setting", status)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setting, k.settings = n, k.settings+1
	return true
}

// refused tells a plane that was killed from one that answered with an error.
func (k *killer) refused(what, status string) bool {
	if status != "" && status != "503" && status != "429" {
		k.t.Errorf("writing %s: status %s", what, status)
	}
	return status == "429"
}

// spotCheck looks at the setting and at a few secrets.
func (k *killer) spotCheck() {
	k.t.Helper()
	c := k.w.caller(k.t)
	defer c.CloseIdleConnections()
	k.checkSetting(c)
	left := 5
	for name, value := range k.secrets {
		if left--; left < 0 {
			return
		}
		k.checkSecret(c, name, value)
	}
}

func (k *killer) checkSetting(c *http.Client) {
	k.t.Helper()
	status, body := k.w.send(k.t, c, http.MethodPost, "management."+domain, k.w.other.ID+"/config/appsettings/list?api-version=2022-03-01", k.arm, "")
	var doc struct {
		Properties map[string]string `json:"properties"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != "200" {
		k.t.Fatalf("settings: status %s, %v", status, err)
	}
	got, _ := strconv.Atoi(doc.Properties["COUNT"])
	if got < k.setting || got > k.tried {
		k.t.Fatalf("COUNT is %d; %d was acknowledged and %d was sent last", got, k.setting, k.tried)
	}
}

func (k *killer) checkSecret(c *http.Client, name, value string) {
	k.t.Helper()
	status, body := k.w.send(k.t, c, http.MethodGet, "kv1.vault."+domain, "/secrets/"+name+"?api-version=7.4", k.admin, "")
	var b struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil || status != "200" || b.Value != value {
		k.t.Fatalf("the acknowledged secret %s is lost: status %s, %v", name, status, err)
	}
}

// check looks at everything that was ever acknowledged.
func (k *killer) check() {
	k.t.Helper()
	c := k.w.caller(k.t)
	defer c.CloseIdleConnections()
	for name, value := range k.secrets {
		k.checkSecret(c, name, value)
	}
	for _, id := range k.assignments {
		if status, body := k.w.send(k.t, c, http.MethodGet, "management."+domain, id+"?api-version=2022-04-01", k.arm, ""); status != "200" {
			k.t.Fatalf("the acknowledged assignment %s is lost: status %s %s", id, status, body)
		}
	}
	k.w.cli("audit", "--verify")
	k.checkAudit()
}

// checkAudit wants a record for each write that was acknowledged.
func (k *killer) checkAudit() {
	k.t.Helper()
	written := map[string]bool{}
	for _, r := range k.w.audit() {
		if r.Outcome == "allowed" {
			written[strings.ToLower(r.Where)] = true
		}
	}
	missing := 0
	for name := range k.secrets {
		if !written[strings.ToLower(k.w.vault.ID+"/secrets/"+name)] {
			missing++
		}
	}
	if missing > 0 {
		k.t.Errorf("%d of %d acknowledged secrets have no record in the audit log", missing, len(k.secrets))
	}
}
