package pg_test

import (
	"testing"
)

func TestPsqlLogsInWithAToken(t *testing.T) {
	d := open(t)
	for _, mode := range []string{"sslmode=require", "sslmode=verify-ca", "sslmode=verify-full", "sslmode=prefer"} {
		got, err := d.psql(t, "SELECT current_user || '/' || current_database()", mode)
		if err != nil || got != "app/appdb" {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
	}
}
