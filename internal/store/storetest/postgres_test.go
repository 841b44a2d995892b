package storetest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsDataOverACrash(t *testing.T) {
	p := StartPostgres(t, "fsync=on", "synchronous_commit=on")
	url := p.CreateDatabase(t, "kept")
	p.Exec(t, "kept", "CREATE TABLE n AS SELECT 42 AS v")
	p.Kill()
	if _, err := pgx.Connect(context.Background(), url); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var v int
	if err := c.QueryRow(context.Background(), "SELECT v FROM n").Scan(&v); err != nil || v != 42 {
		t.Fatalf("got %d, %v", v, err)
	}
}
