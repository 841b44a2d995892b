package redis

// action is what the gateway does about a command.
type action uint8

const (
	pass      action = iota
	subscribe        // passes; its replies can't be counted
	multi            // passes; a transaction begins
	exec             // passes; a transaction ends
	auth
	hello
	reset
	quit
	client  // depends on its subcommand
	cluster // depends on its subcommand
	fenced
)

// ours reports whether the gateway must read the command.
func (a action) ours() bool { return a >= auth }

// actions are the commands that don't just pass. The refused ones show
// others' commands (MONITOR, SLOWLOG), turn the connection into something else
// (SYNC, PSYNC, REPLCONF), take the server to another place or give it orders
// that belong to its owner.
var actions = map[string]action{
	"AUTH": auth, "HELLO": hello, "RESET": reset, "QUIT": quit, "CLIENT": client, "CLUSTER": cluster,
	"MULTI": multi, "EXEC": exec, "DISCARD": exec,
	"SUBSCRIBE": subscribe, "PSUBSCRIBE": subscribe, "SSUBSCRIBE": subscribe,
	"UNSUBSCRIBE": subscribe, "PUNSUBSCRIBE": subscribe, "SUNSUBSCRIBE": subscribe,
	"MONITOR": fenced, "SYNC": fenced, "PSYNC": fenced, "REPLCONF": fenced, "REPLICAOF": fenced, "SLAVEOF": fenced,
	"FAILOVER": fenced, "MIGRATE": fenced, "RESTORE-ASKING": fenced, "SHUTDOWN": fenced, "DEBUG": fenced,
	"MODULE": fenced, "ACL": fenced, "CONFIG": fenced, "SAVE": fenced, "BGSAVE": fenced, "BGREWRITEAOF": fenced,
	"SLOWLOG": fenced, "LATENCY": fenced, "PFDEBUG": fenced, "PFSELFTEST": fenced, "SENTINEL": fenced,
}

// watched has, for each length of a name, the first letters of actions: what
// is not in it passes without a look at the rest.
var watched = func() (w [longestName + 1]uint32) {
	for name := range actions {
		w[len(name)] |= 1 << (name[0] & 31)
	}
	return w
}()

// actionOf returns what to do about a command, whose name is in any case.
func actionOf(name []byte) action {
	if len(name) == 0 || len(name) > longestName || watched[len(name)]&(1<<(name[0]&31)) == 0 {
		return pass
	}
	var b [longestName]byte
	return actions[string(upper(b[:0], name))]
}

// upper appends s in upper case.
func upper(out, s []byte) []byte {
	for _, c := range s {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		out = append(out, c)
	}
	return out
}

// clientPasses are the subcommands of CLIENT about one's own connection.
var clientPasses = map[string]bool{
	"ID": true, "INFO": true, "GETNAME": true, "SETNAME": true, "SETINFO": true, "CACHING": true, "GETREDIR": true,
	"TRACKINGINFO": true, "NO-TOUCH": true, "HELP": true,
}

// clusterPasses are the subcommands of CLUSTER that change nothing and name no
// address; clusterNames are those that name addresses.
var (
	clusterPasses = map[string]bool{
		"INFO": true, "KEYSLOT": true, "COUNTKEYSINSLOT": true, "GETKEYSINSLOT": true, "MYID": true, "MYSHARDID": true, "HELP": true,
	}
	clusterNames = map[string]bool{"SLOTS": true, "SHARDS": true, "NODES": true, "REPLICAS": true, "SLAVES": true}
)
