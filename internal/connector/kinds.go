package connector

// Kind is a kind of database server that has a gateway: its ARM type.
type Kind string

// The kinds of servers.
const (
	PostgreSQL Kind = ServerType
	MySQL      Kind = MySQLServerType
	SQLServer  Kind = SQLServerType
	Redis      Kind = RedisType
)

// Login is what a client asks a gateway for.
type Login struct {
	Kind     Kind
	Server   string // its name as the client gave it; "" if it gave none
	Database string // "" for none (MySQL, SQL Server, Redis)
	User     string // the role it names
}
