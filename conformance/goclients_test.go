package conformance

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	mi "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The Go client is this test program, started again as `… client NAME ARGS`:
// a process of its own, with exactly the environment an app would have. The
// programs in node and python do the same steps and print the same lines.

const pgScope = "https://ossrdbms-aad.database.windows.net/.default"

var goClients = map[string]func(ctx context.Context, args []string) error{
	"secrets":  goSecrets,
	"read":     goRead,
	"identity": goIdentity,
	"database": goDatabase,
	"hold":     goHold,
	"features": goFeatures,
	"visit":    goVisit,
	"msal":     goMSAL,
	"mysql":    goMySQL,
	"sql":      goSQL,
	"redis":    goRedis,
}

func goClient(name string, args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	if err := goClients[name](ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func say(name string, values ...any) {
	fmt.Println(name, strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
}

// goCredential makes a credential by name. A leading "nodiscovery-" is what
// code says for an authority that login.microsoftonline.com does not know.
func goCredential(name string) (azcore.TokenCredential, error) {
	name, off := strings.CutPrefix(name, "nodiscovery-")
	tenant, app := os.Getenv("AZURE_TENANT_ID"), os.Getenv("AZURE_CLIENT_ID")
	switch name {
	case "default":
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{DisableInstanceDiscovery: off})
	case "managed":
		return azidentity.NewManagedIdentityCredential(nil)
	case "managed-client": // the tutorial's line for a user-assigned identity
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(os.Getenv("AZURE_POSTGRESQL_CLIENTID"))})
	case "secret":
		return azidentity.NewClientSecretCredential(tenant, app, os.Getenv("AZURE_CLIENT_SECRET"),
			&azidentity.ClientSecretCredentialOptions{DisableInstanceDiscovery: off})
	case "certificate":
		data, err := os.ReadFile(os.Getenv("CERTIFICATE"))
		if err != nil {
			return nil, err
		}
		certs, key, err := azidentity.ParseCertificates(data, nil)
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(tenant, app, certs, key,
			&azidentity.ClientCertificateCredentialOptions{DisableInstanceDiscovery: off})
	case "workload":
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{DisableInstanceDiscovery: off})
	case "assertion":
		read := func(context.Context) (string, error) {
			b, err := os.ReadFile(os.Getenv("AZURE_FEDERATED_TOKEN_FILE"))
			return string(b), err
		}
		return azidentity.NewClientAssertionCredential(tenant, app, read,
			&azidentity.ClientAssertionCredentialOptions{DisableInstanceDiscovery: off})
	}
	return nil, fmt.Errorf("no credential is called %s", name)
}

// refusal shows an error of the service in the same form in every language.
func refusal(err error) string {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return strconv.Itoa(e.StatusCode) + " " + e.ErrorCode
	}
	if err == nil {
		return "allowed"
	}
	return "failed: " + err.Error()
}

// goRead: CREDENTIAL VAULT NAME.
func goRead(ctx context.Context, args []string) error {
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	c, err := azsecrets.NewClient(args[1], cred, nil)
	if err != nil {
		return err
	}
	r, err := c.GetSecret(ctx, args[2], "", nil)
	if err != nil {
		var e *azcore.ResponseError
		if !errors.As(err, &e) {
			return err
		}
		say("get", refusal(err))
		return nil
	}
	say("get", *r.Value)
	return nil
}

// goSecrets: CREDENTIAL VAULT PREFIX. Every operation on secrets.
func goSecrets(ctx context.Context, args []string) error {
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	c, err := azsecrets.NewClient(args[1], cred, nil)
	if err != nil {
		return err
	}
	s := secretSteps{c: c, prefix: args[2], name: args[2] + "-a"}
	for _, step := range []func(context.Context) error{s.versions, s.properties, s.list, s.deletion, s.backup, s.refusals} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type secretSteps struct {
	c            *azsecrets.Client
	prefix, name string
}

func (s *secretSteps) set(ctx context.Context, name, value string) (azsecrets.SetSecretResponse, error) {
	return s.c.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &value, ContentType: to.Ptr("text/plain"),
		Tags: map[string]*string{"team": to.Ptr("blue")}}, nil)
}

func (s *secretSteps) versions(ctx context.Context) error {
	first, err := s.set(ctx, s.name, "first")
	if err != nil {
		return err
	}
	if _, err := s.set(ctx, s.name, "second"); err != nil {
		return err
	}
	r, err := s.c.GetSecret(ctx, s.name, "", nil)
	if err != nil {
		return err
	}
	say("get", *r.Value)
	r, err = s.c.GetSecret(ctx, s.name, first.ID.Version(), nil)
	if err != nil {
		return err
	}
	say("get-version", *r.Value, *r.ContentType, *r.Tags["team"], *r.Attributes.Enabled)
	say("level", *r.Attributes.RecoveryLevel, *r.Attributes.RecoverableDays)
	n, err := s.count(ctx)
	say("versions", n)
	return err
}

func (s *secretSteps) count(ctx context.Context) (int, error) {
	n := 0
	for p := s.c.NewListSecretPropertiesVersionsPager(s.name, nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		n += len(page.Value)
	}
	return n, nil
}

func (s *secretSteps) properties(ctx context.Context) error {
	r, err := s.c.GetSecret(ctx, s.name, "", nil)
	if err != nil {
		return err
	}
	version := r.ID.Version()
	update := func(p azsecrets.UpdateSecretPropertiesParameters) (azsecrets.UpdateSecretPropertiesResponse, error) {
		return s.c.UpdateSecretProperties(ctx, s.name, version, p, nil)
	}
	u, err := update(azsecrets.UpdateSecretPropertiesParameters{ContentType: to.Ptr("application/json"),
		Tags: map[string]*string{"team": to.Ptr("green")},
		SecretAttributes: &azsecrets.SecretAttributes{
			NotBefore: to.Ptr(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)),
			Expires:   to.Ptr(time.Date(2035, 1, 2, 3, 4, 5, 0, time.UTC))}})
	if err != nil {
		return err
	}
	say("update", *u.ContentType, *u.Tags["team"], u.Attributes.NotBefore.Unix(), u.Attributes.Expires.Unix())
	off := azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)}}
	if _, err := update(off); err != nil {
		return err
	}
	_, err = s.c.GetSecret(ctx, s.name, "", nil)
	say("disabled", refusal(err))
	off.SecretAttributes.Enabled = to.Ptr(true)
	if _, err := update(off); err != nil {
		return err
	}
	_, err = s.c.GetSecret(ctx, s.name, "", nil)
	say("enabled", refusal(err))
	return nil
}

// list makes more secrets than one page holds.
func (s *secretSteps) list(ctx context.Context) error {
	for i := range 30 {
		if _, err := s.set(ctx, fmt.Sprintf("%s-l%02d", s.prefix, i), "x"); err != nil {
			return err
		}
	}
	n := 0
	for p := s.c.NewListSecretPropertiesPager(nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Value {
			if strings.HasPrefix(item.ID.Name(), s.prefix+"-") {
				n++
			}
		}
	}
	say("list", n)
	return nil
}

func (s *secretSteps) deletion(ctx context.Context) error {
	d, err := s.c.DeleteSecret(ctx, s.name, nil)
	if err != nil {
		return err
	}
	say("deleted", d.ID.Name(), d.RecoveryID != nil && d.ScheduledPurgeDate.After(*d.DeletedDate))
	_, err = s.c.GetSecret(ctx, s.name, "", nil)
	say("get-deleted", refusal(err))
	_, err = s.set(ctx, s.name, "third")
	say("set-deleted", refusal(err))
	if _, err := s.c.GetDeletedSecret(ctx, s.name, nil); err != nil {
		return err
	}
	found := false
	for p := s.c.NewListDeletedSecretPropertiesPager(nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Value {
			found = found || item.ID.Name() == s.name
		}
	}
	say("list-deleted", found)
	if _, err := s.c.RecoverDeletedSecret(ctx, s.name, nil); err != nil {
		return err
	}
	r, err := s.c.GetSecret(ctx, s.name, "", nil)
	if err != nil {
		return err
	}
	say("recovered", *r.Value)
	return nil
}

func (s *secretSteps) backup(ctx context.Context) error {
	b, err := s.c.BackupSecret(ctx, s.name, nil)
	if err != nil {
		return err
	}
	if _, err := s.c.DeleteSecret(ctx, s.name, nil); err != nil {
		return err
	}
	if _, err := s.c.PurgeDeletedSecret(ctx, s.name, nil); err != nil {
		return err
	}
	_, err = s.c.GetDeletedSecret(ctx, s.name, nil)
	say("purged", refusal(err))
	if _, err := s.c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: b.Value}, nil); err != nil {
		return err
	}
	r, err := s.c.GetSecret(ctx, s.name, "", nil)
	if err != nil {
		return err
	}
	n, err := s.count(ctx)
	say("restored", *r.Value, n)
	return err
}

func (s *secretSteps) refusals(ctx context.Context) error {
	_, err := s.c.GetSecret(ctx, s.prefix+"-none", "", nil)
	say("missing", refusal(err))
	_, err = s.set(ctx, s.prefix+"-max", strings.Repeat("m", 25600))
	say("max", refusal(err))
	_, err = s.set(ctx, s.prefix+"-big", strings.Repeat("b", 25601))
	say("too-big", refusal(err))
	return nil
}

// goIdentity: CLIENT-ID OBJECT-ID RESOURCE-ID of a user-assigned identity. A
// token by every way of naming an identity, with azidentity and with MSAL.
func goIdentity(ctx context.Context, args []string) error {
	const resource = "https://vault.azure.net"
	for i, id := range []azidentity.ManagedIDKind{nil, azidentity.ClientID(args[0]), azidentity.ObjectID(args[1]), azidentity.ResourceID(args[2]), azidentity.ClientID(none)} {
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: id})
		if err != nil {
			return err
		}
		t, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
		sayToken("sdk-"+kinds[i], t.Token, err)
	}
	for i, id := range []mi.ID{mi.SystemAssigned(), mi.UserAssignedClientID(args[0]), mi.UserAssignedObjectID(args[1]), mi.UserAssignedResourceID(args[2]), mi.UserAssignedClientID(none)} {
		c, err := mi.New(id)
		if err != nil {
			return err
		}
		r, err := c.AcquireToken(ctx, resource)
		sayToken("msal-"+kinds[i], r.AccessToken, err)
	}
	return nil
}

var kinds = []string{"system", "client-id", "object-id", "resource-id", "unknown"}

const none = "00000000-0000-0000-0000-00000000dead"

// sayToken shows whose token it is.
func sayToken(name, token string, err error) {
	if err != nil {
		say(name, "refused")
		return
	}
	c := claims(token)
	say(name, c["oid"], c["aud"])
}

func claims(token string) map[string]any {
	parts := strings.Split(token, ".")
	c := map[string]any{}
	if len(parts) == 3 {
		b, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(b, &c)
	}
	return c
}

// goDatabase: CREDENTIAL TABLE, as the tutorial: the settings of Service
// Connector and a token per connection.
func goDatabase(ctx context.Context, args []string) error {
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	cfg, err := pgxpool.ParseConfig(os.Getenv("AZURE_POSTGRESQL_CONNECTIONSTRING"))
	if err != nil {
		return err
	}
	cfg.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		t, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{pgScope}})
		c.Password = t.Token
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	var user, database string
	if err := pool.QueryRow(ctx, "select current_user, current_database()").Scan(&user, &database); err != nil {
		return err
	}
	say("who", user, database)
	for _, q := range databaseQueries(args[1]) {
		_, err := pool.Exec(ctx, q[1])
		say(q[0], sqlstate(err))
	}
	return nil
}

// databaseQueries are what every database client tries.
func databaseQueries(table string) [][2]string {
	return [][2]string{
		{"select", "select * from " + table},
		{"insert", "insert into " + table + " values (1)"},
		{"create", "create table made_by_the_app (a int)"},
		{"become", "set role postgres"},
	}
}

func sqlstate(err error) string {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &pg):
		return pg.Code
	}
	return err.Error()
}

// goFeatures: CREDENTIAL TABLE. What drivers do besides plain queries.
func goFeatures(ctx context.Context, args []string) error {
	cfg, err := pgx.ParseConfig(os.Getenv("AZURE_POSTGRESQL_CONNECTIONSTRING"))
	if err != nil {
		return err
	}
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	t, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{pgScope}})
	if err != nil {
		return err
	}
	cfg.Password = t.Token
	var conns [2]*pgx.Conn
	for i := range conns {
		if conns[i], err = pgx.ConnectConfig(ctx, cfg); err != nil {
			return err
		}
		defer func() { _ = conns[i].Close(ctx) }()
	}
	for _, f := range []struct {
		name string
		try  func(ctx context.Context, a, b *pgx.Conn) (string, error)
	}{
		{"copy-in", func(ctx context.Context, a, _ *pgx.Conn) (string, error) {
			n, err := a.CopyFrom(ctx, pgx.Identifier{args[1]}, []string{"a"}, pgx.CopyFromSlice(100_000, func(i int) ([]any, error) { return []any{i}, nil }))
			return strconv.FormatInt(n, 10), err
		}},
		{"copy-out", func(ctx context.Context, a, _ *pgx.Conn) (string, error) {
			tag, err := a.PgConn().CopyTo(ctx, io.Discard, "copy "+args[1]+" to stdout")
			return strconv.FormatInt(tag.RowsAffected(), 10), err
		}},
		{"pipeline", pipeline},
		{"notify", notify},
		{"cancel", cancelQuery},
		{"large-row", func(ctx context.Context, a, _ *pgx.Conn) (string, error) {
			var b []byte
			err := a.QueryRow(ctx, "select convert_to(repeat('x', 100 * 1024 * 1024), 'UTF8')").Scan(&b)
			return strconv.Itoa(len(b)), err
		}},
		{"large-object", largeObject},
		{"prepared", func(ctx context.Context, a, _ *pgx.Conn) (string, error) {
			if _, err := a.Prepare(ctx, "p", "select $1::int + 1"); err != nil {
				return "", err
			}
			var n int
			err := a.QueryRow(ctx, "p", 41).Scan(&n)
			return strconv.Itoa(n), err
		}},
		{"error-then-go-on", func(ctx context.Context, a, _ *pgx.Conn) (string, error) {
			_, failed := a.Exec(ctx, "select 1/0")
			var n int
			err := a.QueryRow(ctx, "select 7").Scan(&n)
			return sqlstate(failed) + " " + strconv.Itoa(n), err
		}},
	} {
		got, err := f.try(ctx, conns[0], conns[1])
		if err != nil {
			got = "failed: " + err.Error()
		}
		say(f.name, got)
	}
	return nil
}

func pipeline(ctx context.Context, a, _ *pgx.Conn) (string, error) {
	var batch pgx.Batch
	for i := range 1000 {
		batch.Queue("select $1::int", i)
	}
	results := a.SendBatch(ctx, &batch)
	sum := 0
	for range 1000 {
		var n int
		if err := results.QueryRow().Scan(&n); err != nil {
			return "", err
		}
		sum += n
	}
	return strconv.Itoa(sum), results.Close()
}

func notify(ctx context.Context, a, b *pgx.Conn) (string, error) {
	if _, err := a.Exec(ctx, "listen news"); err != nil {
		return "", err
	}
	if _, err := b.Exec(ctx, "select pg_notify('news', 'hello')"); err != nil {
		return "", err
	}
	n, err := a.WaitForNotification(ctx)
	if err != nil {
		return "", err
	}
	return n.Payload, nil
}

// cancelQuery sends a cancel request, as psql does for Ctrl-C.
func cancelQuery(ctx context.Context, a, b *pgx.Conn) (string, error) {
	var pid uint32
	if err := b.QueryRow(ctx, "select 1").Scan(&pid); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, "select pg_sleep(60)")
		done <- err
	}()
	for {
		var n int
		if err := a.QueryRow(ctx, "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'").Scan(&n); err != nil {
			return "", err
		}
		if n > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := b.PgConn().CancelRequest(ctx); err != nil {
		return "", err
	}
	return sqlstate(<-done), nil
}

func largeObject(ctx context.Context, a, _ *pgx.Conn) (string, error) {
	tx, err := a.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	objects := tx.LargeObjects()
	id, err := objects.Create(ctx, 0)
	if err != nil {
		return "", err
	}
	o, err := objects.Open(ctx, id, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	if err != nil {
		return "", err
	}
	if _, err := o.Write(make([]byte, 3<<20)); err != nil {
		return "", err
	}
	end, err := o.Seek(0, io.SeekEnd)
	return strconv.FormatInt(end, 10), err
}

// goHold: CREDENTIAL. Holds one session open, queries it again and again and
// says when it ended; one line when it stands.
func goHold(ctx context.Context, args []string) error {
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(os.Getenv("AZURE_POSTGRESQL_CONNECTIONSTRING"))
	if err != nil {
		return err
	}
	t, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{pgScope}})
	if err != nil {
		return err
	}
	cfg.Password = t.Token
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	say("connected", time.Now().UnixMicro())
	for {
		if _, err := conn.Exec(ctx, "select 1"); err != nil {
			say("ended", time.Now().UnixMicro(), sqlstate(err))
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pemFile writes a certificate and its key as the SDKs take them.
func pemFile(path string, der []byte, key any) error {
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return os.WriteFile(path, b, 0o600)
}
