package connector

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

func TestSettingsNames(t *testing.T) {
	base := target{Auth: authSystem, Connection: "c1", Host: "s1.postgres.database.azure.com", Port: 5432, Database: "d1", User: "aad_c1", Prefix: prefix}
	withSecret, withUser, otherPort := base, base, base
	withSecret.Auth, withSecret.User, withSecret.Password = authSecret, "u", az.NewSecret("p")
	withUser.Auth, withUser.ClientID = authUser, "cid"
	otherPort.Host, otherPort.Port, otherPort.Prefix = "127.0.0.1", 15432, ownPrefix(prefix, "my-second.one")
	const h = "s1.postgres.database.azure.com"
	cases := []struct {
		client string
		t      target
		want   []string
	}{
		{"dotnet", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=Server=" + h + ";Database=d1;Port=5432;Ssl Mode=Require;User Id=aad_c1;"}},
		{"dotnet", withSecret, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=Server=" + h + ";Database=d1;Port=5432;Ssl Mode=Require;User Id=u;Password=p;"}},
		{"dotnet-connectionString", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=Server=" + h + ";Database=d1;Port=5432;Ssl Mode=Require;User Id=aad_c1;"}},
		{"go", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=host=" + h + " dbname=d1 sslmode=require user=aad_c1"}},
		{"go", withSecret, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=host=" + h + " dbname=d1 sslmode=require user=u password=p"}},
		{"go", otherPort, []string{"AZURE_POSTGRESQL_MY_SECOND_ONE_CONNECTIONSTRING=host=127.0.0.1 dbname=d1 sslmode=require user=aad_c1 port=15432"}},
		{"java", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=jdbc:postgresql://" + h + ":5432/d1?sslmode=require&user=aad_c1"}},
		{"java", withSecret, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=jdbc:postgresql://" + h + ":5432/d1?sslmode=require&user=u&password=p"}},
		{"nodejs", base, []string{"AZURE_POSTGRESQL_HOST=" + h, "AZURE_POSTGRESQL_USER=aad_c1", "AZURE_POSTGRESQL_DATABASE=d1", "AZURE_POSTGRESQL_PORT=5432", "AZURE_POSTGRESQL_SSL=true"}},
		{"nodejs", withUser, []string{"AZURE_POSTGRESQL_HOST=" + h, "AZURE_POSTGRESQL_USER=aad_c1", "AZURE_POSTGRESQL_DATABASE=d1", "AZURE_POSTGRESQL_PORT=5432", "AZURE_POSTGRESQL_SSL=true", "AZURE_POSTGRESQL_CLIENTID=cid"}},
		{"php", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=host=" + h + " port=5432 dbname=d1 sslmode=require user=aad_c1"}},
		{"ruby", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=host=" + h + " port=5432 dbname=d1 sslmode=require user=aad_c1"}},
		{"python", base, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=dbname=d1 host=" + h + " port=5432 sslmode=require user=aad_c1"}},
		{"python", withSecret, []string{"AZURE_POSTGRESQL_CONNECTIONSTRING=dbname=d1 host=" + h + " port=5432 sslmode=require user=u password=p"}},
		{"django", base, []string{"AZURE_POSTGRESQL_NAME=d1", "AZURE_POSTGRESQL_HOST=" + h, "AZURE_POSTGRESQL_USER=aad_c1"}},
		{"django", withSecret, []string{"AZURE_POSTGRESQL_NAME=d1", "AZURE_POSTGRESQL_HOST=" + h, "AZURE_POSTGRESQL_USER=u", "AZURE_POSTGRESQL_PASSWORD=p"}},
		{"none", base, []string{"AZURE_POSTGRESQL_HOST=" + h, "AZURE_POSTGRESQL_USERNAME=aad_c1", "AZURE_POSTGRESQL_DATABASE=d1", "AZURE_POSTGRESQL_PORT=5432", "AZURE_POSTGRESQL_SSL=true"}},
		{"springBoot", base, []string{"spring.datasource.url=jdbc:postgresql://" + h + ":5432/d1?sslmode=require", "spring.datasource.username=aad_c1", "spring.datasource.azure.passwordless-enabled=true"}},
		{"springBoot", withUser, []string{"spring.datasource.url=jdbc:postgresql://" + h + ":5432/d1?sslmode=require", "spring.datasource.username=aad_c1",
			"spring.cloud.azure.credential.client-id=cid", "spring.cloud.azure.credential.client-managed-identity-enabled=true", "spring.datasource.azure.passwordless-enabled=true"}},
		{"springBoot", withSecret, []string{"spring.datasource.url=jdbc:postgresql://" + h + ":5432/d1?sslmode=require", "spring.datasource.username=u", "spring.datasource.password=p"}},
	}
	for _, c := range cases {
		c.t.Client = c.client
		var got []string
		for _, s := range c.t.settings() {
			got = append(got, s.Name+"="+s.reveal())
			if s.ConnectionString != (c.client == "dotnet-connectionString") {
				t.Errorf("%s: the setting %s is in the wrong place", c.client, s.Name)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s %s: (-want +got)\n%s", c.client, c.t.Auth, diff)
		}
	}
}

// TestOddValuesStayValues lets pgx read what a connection string says.
func TestOddValuesStayValues(t *testing.T) {
	odd := `a b'c\d sslmode=disable host=evil`
	for _, client := range []string{"go", "python", "php", "ruby"} {
		s := target{Auth: authSecret, Client: client, Host: "h", Port: 5433, Database: odd, User: odd, Password: az.NewSecret(odd), Prefix: prefix}.settings()
		cfg, err := pgx.ParseConfig(s[0].reveal())
		if err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		if cfg.Host != "h" || cfg.Port != 5433 || cfg.User != odd || cfg.Password != odd || cfg.Database != odd || cfg.TLSConfig == nil {
			t.Errorf("%s: read as host %q user %q database %q", client, cfg.Host, cfg.User, cfg.Database)
		}
	}
}
