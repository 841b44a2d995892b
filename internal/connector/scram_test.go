package connector

import (
	"strings"
	"testing"
)

// TestPasswordsWithoutNames: no password holds a part of its role's name,
// which a SQL Server with a policy would refuse.
func TestPasswordsWithoutNames(t *testing.T) {
	const name = "abc-Def_ghi jkl.mno-pqr-stu-vwx"
	for range 2000 {
		p := strings.ToLower(passwordFor(name).Reveal())
		for _, part := range []string{"abc", "def", "ghi", "jkl", "mno", "pqr", "stu", "vwx"} {
			if strings.Contains(p, part) {
				t.Fatalf("a password of %q holds %q", name, part)
			}
		}
	}
	if passwordFor("a").IsZero() || passwordFor("Aa1").IsZero() {
		t.Error("there is a name without a password")
	}
}
