package mysql

// Capability flags: include/mysql_com.h of both servers.
const (
	capLongPassword  = 1 << 0 // MariaDB calls it CLIENT_MYSQL: no extended capabilities follow
	capFoundRows     = 1 << 1
	capLongFlag      = 1 << 2
	capConnectWithDB = 1 << 3
	capNoSchema      = 1 << 4
	capCompress      = 1 << 5
	capODBC          = 1 << 6
	capLocalFiles    = 1 << 7
	capIgnoreSpace   = 1 << 8
	capProtocol41    = 1 << 9
	capInteractive   = 1 << 10
	capSSL           = 1 << 11
	capIgnoreSigpipe = 1 << 12
	capTransactions  = 1 << 13
	capSecure        = 1 << 15 // 20-byte scrambles
	capMultiStmts    = 1 << 16
	capMultiResults  = 1 << 17
	capPSMulti       = 1 << 18
	capPluginAuth    = 1 << 19
	capConnectAttrs  = 1 << 20
	capLenencAuth    = 1 << 21
	capSessionTrack  = 1 << 23
	capDeprecateEOF  = 1 << 24
	capZstd          = 1 << 26
)

// passed are the capabilities that a client chooses and its backend is logged
// in with. They are those of MySQL since 5.7.5 and MariaDB since 10.2. None
// that changes how a command is written is among them, so that commands can be
// followed in the same way for all.
const passed = capFoundRows | capLongFlag | capNoSchema | capODBC | capLocalFiles | capIgnoreSpace | capInteractive |
	capTransactions | capMultiStmts | capMultiResults | capPSMulti | capSessionTrack | capDeprecateEOF

// login are the capabilities of the two logins, each of which is a matter of
// its own half.
const login = capLongPassword | capProtocol41 | capSecure | capPluginAuth

// offered is what the greeting states. Connection attributes are taken and go
// no further: they would name another client once a connection is warm.
const offered = passed | login | capLenencAuth | capConnectWithDB | capSSL | capIgnoreSigpipe | capConnectAttrs

// optional are capabilities whose lack at a backend only makes it refuse a
// statement: a server with local_infile off does not state that it takes files.
const optional = capLocalFiles

// mandatory is what a client must know to log in here.
const mandatory = capProtocol41 | capSecure | capPluginAuth

// Status flags: the same header.
const (
	statusAutocommit  = 0x0002
	statusMoreResults = 0x0008
	statusCursor      = 0x0040
	statusNoBackslash = 0x0200
)
