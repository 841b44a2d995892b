// Command go shows an app without a secret: it reads a Key Vault secret and
// queries PostgreSQL as its managed identity.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	mi "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// databaseScope is the scope of Azure Database for PostgreSQL.
const databaseScope = "https://ossrdbms-aad.database.windows.net/.default"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range []func(context.Context, *azidentity.DefaultAzureCredential) error{
		readSecret, showReference, queryDatabase, msalToken,
	} {
		if err := step(ctx, cred); err != nil {
			log.Fatal(err)
		}
	}
}

// readSecret reads the secret that the settings name.
func readSecret(ctx context.Context, cred *azidentity.DefaultAzureCredential) error {
	vault, name := os.Getenv("KEY_VAULT_URL"), os.Getenv("SECRET_NAME")
	client, err := azsecrets.NewClient(vault, cred, nil)
	if err != nil {
		return err
	}
	secret, err := client.GetSecret(ctx, name, "", nil)
	if err != nil {
		return err
	}
	fmt.Printf("Key Vault:  read %s (%d characters) with azidentity\n", *secret.ID, len(*secret.Value))
	return nil
}

// showReference uses a setting whose value is a Key Vault reference: to the
// app it is a variable like any other.
func showReference(context.Context, *azidentity.DefaultAzureCredential) error {
	fmt.Printf("Setting:    GREETING is %q\n", os.Getenv("GREETING"))
	return nil
}

// queryDatabase asks for a fresh token each time the pool opens a connection
// and uses it as the password.
func queryDatabase(ctx context.Context, cred *azidentity.DefaultAzureCredential) error {
	config, err := pgxpool.ParseConfig(os.Getenv("AZURE_POSTGRESQL_CONNECTIONSTRING"))
	if err != nil {
		return err
	}
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{databaseScope}})
		if err != nil {
			return err
		}
		c.Password = token.Token
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	var user, database, version string
	err = pool.QueryRow(ctx, "select current_user, current_database(), current_setting('server_version')").
		Scan(&user, &database, &version)
	if err != nil {
		return err
	}
	fmt.Printf("PostgreSQL: connected to %s as %s with a token, server %s\n", database, user, version)
	return nil
}

// msalToken does the same with MSAL, without the Azure SDK.
func msalToken(ctx context.Context, _ *azidentity.DefaultAzureCredential) error {
	client, err := mi.New(mi.SystemAssigned())
	if err != nil {
		return err
	}
	result, err := client.AcquireToken(ctx, "https://vault.azure.net")
	if err != nil {
		return err
	}
	fmt.Printf("MSAL:       got a token that lasts until %s\n", result.ExpiresOn.UTC().Format(time.RFC3339))
	return nil
}
