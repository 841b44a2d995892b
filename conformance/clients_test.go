package conformance

import "os/exec"

// python is Debian's, which has Azure's packages; another may come first in
// PATH.
const python = "/usr/bin/python3"

// ecosystem is how one language's clients are started. Each has the same
// programs, which print the same lines.
type ecosystem struct {
	name     string
	settings string // client type of Service Connector
	program  func(name string, args ...string) []string
}

var ecosystems = []ecosystem{
	{"go", "go", func(name string, args ...string) []string {
		return append([]string{self, "client", name}, args...)
	}},
	{"node", "nodejs", func(name string, args ...string) []string {
		return append([]string{"node", "node/" + name + ".mjs"}, args...)
	}},
	{"python", "python", func(name string, args ...string) []string {
		if name == "msal" {
			name = "msal_flows"
		}
		switch name {
		case "secrets":
			name = "secrets_all" // secrets is a module of Python's own
		case "redis":
			name = "redis_client" // and this one is the driver's
		}
		return append([]string{python, "python/" + name + ".py"}, args...)
	}},
}

// psql is how psql is started; DSN comes first.
func psql(dsn, sql string) []string {
	path, _ := exec.LookPath("psql")
	return []string{path, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, dsn}
}
