// Command sql-go shows an app without a secret that queries Azure SQL as its
// managed identity. The settings are those of Service Connector.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/microsoft/go-mssqldb/azuread"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// fedauth=ActiveDirectoryDefault in the connection string makes the driver
	// ask the Azure Identity library for a token.
	db, err := sql.Open(azuread.DriverName, os.Getenv("AZURE_SQL_CONNECTIONSTRING"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var login, database string
	if err := db.QueryRowContext(ctx, "SELECT SUSER_SNAME() AS login, DB_NAME() AS db").Scan(&login, &database); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("SQL Server: connected to %s as %s with a token\n", database, login)
}
