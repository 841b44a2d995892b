package pg

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/gateway"
)

// startup is what a client asked for, after everything that only the gateway
// may decide was taken out or refused.
type startup struct {
	minor    uint32 // of protocol 3
	user     string
	database string
	server   string              // "" when the client named none
	oauth    bool                // it wants SASL OAUTHBEARER
	params   map[string]string   // startup parameters for the backend
	unknown  []string            // _pq_ options to be declined
	gucs     map[string]struct{} // names set, folded, to refuse a second setting
}

// passed are the parameters a client may put in its startup message. Anything
// else, if it is a setting, can be given as options=-c name=value, where
// denied says which may not.
var passed = map[string]bool{
	"client_encoding": true, "application_name": true, "datestyle": true, "timezone": true, "intervalstyle": true,
	"extra_float_digits": true, "search_path": true,
	// what node-pg, JDBC and Npgsql send when they are told to
	"statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true, "geqo": true,
	"bytea_output": true, "standard_conforming_strings": true, "default_transaction_read_only": true,
	"default_transaction_isolation": true,
}

// denied are settings that would make the session somebody else's, load code
// into it, change how it is logged or authenticated, or survive DISCARD ALL.
var denied = map[string]bool{
	"role": true, "session_authorization": true, "is_superuser": true, "replication": true,
	"session_preload_libraries": true, "local_preload_libraries": true, "shared_preload_libraries": true,
	"dynamic_library_path": true, "ignore_system_indexes": true, "post_auth_delay": true, "pre_auth_delay": true,
	"log_connections": true, "log_disconnections": true, "jit_provider": true, "allow_system_table_mods": true,
	"session_replication_role": true, "user": true, "database": true, "zero_damaged_pages": true,
}

// errStartup makes the refusal of a startup message; the text is for the
// client.
func errStartup(code, format string, args ...any) error {
	return &refusal{code: code, message: fmt.Sprintf(format, args...)}
}

// errUnread is errStartup for a message that was refused by its header.
func errUnread(format string, args ...any) error {
	return &refusal{code: protocolViolation, message: fmt.Sprintf(format, args...), unread: true}
}

// parseStartup reads the body of a StartupMessage, the version included.
// domain is the part of a host name after the server's own.
func parseStartup(body []byte, domain string) (*startup, error) {
	if len(body) < 5 {
		return nil, errStartup(protocolViolation, "invalid length of startup packet")
	}
	version := binary.BigEndian.Uint32(body)
	if version>>16 != 3 {
		return nil, errStartup(featureNotSupported, "unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", version>>16, version&0xffff)
	}
	s := &startup{minor: version & 0xffff, params: map[string]string{}, gucs: map[string]struct{}{}}
	pairs, err := splitPairs(body[4:])
	if err != nil {
		return nil, err
	}
	for _, kv := range pairs {
		if err := s.take(kv[0], kv[1]); err != nil {
			return s, err
		}
	}
	if s.user == "" {
		return s, errStartup(invalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	return s, s.settle(domain)
}

// splitPairs cuts the name-value list, whose end must be the packet's end.
func splitPairs(b []byte) ([][2]string, error) {
	bad := errStartup(protocolViolation, "invalid startup packet layout: expected terminator as last byte")
	var out [][2]string
	for {
		name, rest, ok := cstring(b)
		if !ok {
			return nil, bad
		}
		if name == "" {
			if len(rest) != 0 {
				return nil, bad
			}
			return out, nil
		}
		value, rest, ok := cstring(rest)
		if !ok {
			return nil, bad
		}
		for _, kv := range out {
			if strings.EqualFold(kv[0], name) {
				return nil, errStartup(protocolViolation, "startup parameter %q is given twice", clean(name))
			}
		}
		out = append(out, [2]string{name, value})
		b = rest
	}
}

// take handles one startup parameter.
func (s *startup) take(name, value string) error {
	switch folded := strings.ToLower(name); {
	case name == "user":
		s.user = value
	case name == "database":
		s.database = value
	case name == "options":
		return s.takeOptions(value)
	case folded == "replication":
		if off, known := map[string]bool{"false": true, "off": true, "no": true, "0": true}[strings.ToLower(value)]; known && off {
			return nil
		}
		return errStartup(featureNotSupported, "replication connections are not served by this gateway")
	case strings.HasPrefix(name, "_pq_."):
		s.unknown = append(s.unknown, clean(name))
	case folded == "hawser.auth":
		return s.takeAuth(value)
	case passed[folded]:
		return s.set(name, value)
	default:
		return errStartup(protocolViolation, "unsupported startup parameter: %s", clean(name))
	}
	return nil
}

func (s *startup) takeAuth(value string) error {
	switch strings.ToLower(value) {
	case "oauthbearer":
		s.oauth = true
	case "password":
	default:
		return errStartup(invalidParameter, `invalid value for "hawser.auth": use "password" or "oauthbearer"`)
	}
	return nil
}

// set keeps a setting for the backend; a second setting of the same one, in
// whatever case, is refused, because PostgreSQL and we might disagree about
// which one counts.
func (s *startup) set(name, value string) error {
	folded := strings.ToLower(name)
	if _, twice := s.gucs[folded]; twice {
		return errStartup(protocolViolation, "setting %q is given twice", clean(name))
	}
	s.gucs[folded] = struct{}{}
	s.params[folded] = value
	return nil
}

// takeOptions reads the command-line form: -c name=value, -cname=value,
// --name=value and endpoint=server. No other switch of the server is let in.
func (s *startup) takeOptions(text string) error {
	words, err := splitOptions(text)
	if err != nil {
		return err
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "-c") && len(w) > 2:
			w = w[2:]
		case strings.HasPrefix(w, "--") && len(w) > 2:
			w = w[2:]
		case strings.HasPrefix(w, "endpoint="):
		default:
			return errStartup(invalidParameter, "only -c name=value and endpoint=server are allowed in options")
		}
		if err := s.takeSetting(w); err != nil {
			return err
		}
	}
	return nil
}

func (s *startup) takeSetting(w string) error {
	name, value, ok := strings.Cut(w, "=")
	if !ok || name == "" {
		return errStartup(invalidParameter, "-c %s requires a value", clean(w))
	}
	folded := strings.ToLower(strings.ReplaceAll(name, "-", "_")) // as PostgreSQL's ParseLongOption does
	switch {
	case folded == "endpoint":
		return s.name(value)
	case folded == "hawser.auth":
		return s.takeAuth(value)
	case denied[folded]:
		return errStartup(insufficientPrivilege, "permission denied to set parameter %q at login", folded)
	case !isSettingName(folded):
		return errStartup(invalidParameter, "invalid setting name in options")
	}
	return s.set(folded, value)
}

// isSettingName reports whether s can be the name of a setting: words of
// letters, digits, _ and $ joined by dots.
func isSettingName(s string) bool {
	if len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '.' && c != '$' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && (s[0] == '_' || s[0] >= 'a' && s[0] <= 'z')
}

// splitOptions splits at white space as PostgreSQL's pg_split_opts does: a
// backslash takes the next byte as it is.
func splitOptions(s string) ([]string, error) {
	var (
		words []string
		word  strings.Builder
		in    bool
	)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r', '\v', '\f':
			if in {
				words, in = append(words, word.String()), false
				word.Reset()
			}
		case '\\':
			if i+1 == len(s) {
				return nil, errStartup(invalidParameter, "options end in a backslash")
			}
			i++
			word.WriteByte(s[i])
			in = true
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// name takes one naming of the server; another that differs is refused.
func (s *startup) name(server string) error {
	server = strings.ToLower(server)
	if !gateway.IsServerName(server) {
		return errStartup(invalidAuthorization, "invalid server name in the connection settings")
	}
	if s.server != "" && s.server != server {
		return errStartup(invalidAuthorization,
			"the connection names two servers, %q and %q: name one, by host, by options=endpoint=<server> or by user@server", s.server, server)
	}
	s.server = server
	return nil
}

// maxName is NAMEDATALEN - 1. PostgreSQL cuts a longer name off, so what was
// authorised would not be what is opened.
const maxName = 63

// settle splits user@server and fills in the database.
func (s *startup) settle(domain string) error {
	if i := strings.LastIndexByte(s.user, '@'); i > 0 {
		suffix := strings.ToLower(s.user[i+1:])
		if domain != "" {
			suffix = strings.TrimSuffix(suffix, "."+domain)
		}
		if gateway.IsServerName(suffix) {
			if err := s.name(suffix); err != nil {
				return err
			}
			s.user = s.user[:i]
		}
	}
	if s.database == "" {
		s.database = s.user
	}
	if len(s.user) > maxName || len(s.database) > maxName {
		return errStartup(invalidAuthorization, "user and database names have at most %d bytes", maxName)
	}
	return nil
}

// key is a text that is equal for equal parameters.
func (s *startup) key() string {
	names := make([]string, 0, len(s.params))
	for n := range s.params {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		b.WriteString(n)
		b.WriteByte(0)
		b.WriteString(s.params[n])
		b.WriteByte(0)
	}
	return b.String()
}

// clean makes a stranger's text fit for a message: short and printable.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
	for i := range s {
		if i > maxName {
			return s[:i] + "…"
		}
	}
	return s
}
