package mysql_test

import (
	"testing"
)

func TestDriverLogsInWithAToken(t *testing.T) {
	d := open(t)
	c := d.login()
	if got := ask(t, c, "SELECT CONCAT(CURRENT_USER(), '/', DATABASE())"); got != "app@%/appdb" {
		t.Error(got)
	}
	if got := ask(t, c, "SELECT ?", "prepared"); got != "prepared" {
		t.Error(got)
	}
}
