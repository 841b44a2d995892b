package connector

import (
	"strings"
	"unicode"

	"github.com/hawser/hawser/internal/az"
)

// The data access policies that every cache has. Source of the texts: what
// "az redis access-policy list" and exported templates of Azure show.
var redisBuiltIn = map[string]string{
	"Data Owner":       "+@all allkeys",
	"Data Contributor": "+@all -@dangerous +cluster|info +cluster|nodes +cluster|slots allkeys",
	"Data Reader":      "+@read +@connection +cluster|info +cluster|nodes +cluster|slots allkeys",
}

const (
	// maxRedisPermissions bounds a policy's text, maxRedisTerms its terms. Both
	// are limits of this plane's: the server tells every one of its users apart
	// by them.
	maxRedisPermissions = 2048
	maxRedisTerms       = 200
)

// redisNever end every user's rules, so that whatever stands before them the
// user cannot change users or settings, read what others do, load code into the
// server, have it copy itself or connect somewhere else. Azure keeps most of
// these from everybody, too ("Redis commands not supported in Azure Cache for
// Redis"); the gateway stands in front of the server as another user does, so
// here it is the server that must.
const redisNever = "-@admin -acl -config -latency -migrate -module -restore-asking -script|debug -slowlog"

// redisAdminNames are the commands of the category admin of Redis 7.0 that do
// not stand in redisNever themselves.
const redisAdminNames = `bgrewriteaof bgsave client|kill client|list client|no-evict client|pause client|unblock client|unpause
cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|count-failure-reports cluster|delslots cluster|delslotsrange cluster|failover
cluster|flushslots cluster|forget cluster|meet cluster|replicas cluster|replicate cluster|reset cluster|saveconfig cluster|set-config-epoch
cluster|setslot cluster|slaves debug failover lastsave monitor pfdebug pfselftest psync replconf replicaof role save shutdown slaveof sync`

// redisWords holds one kind of names.
type redisWords map[string]bool

func redisWordsOf(lists ...string) redisWords {
	w := redisWords{}
	for _, l := range lists {
		for _, f := range strings.Fields(l) {
			w[strings.TrimPrefix(f, "-")] = true
		}
	}
	return w
}

var (
	redisCommandWords = redisWordsOf(redisCommandNames, redisSubcommandNames)
	redisCategories   = redisWordsOf(redisCategoryNames)
	redisForbidden    = redisWordsOf(redisNever, redisAdminNames)
)

// redisRules turns a policy's permissions into the rules of ACL SETUSER. It
// knows each term that it lets through: the server's language has passwords and
// switches among them, which are the plane's alone.
func redisRules(permissions string) ([]string, error) {
	if len(permissions) > maxRedisPermissions {
		return nil, badPermissions("may have %d characters", maxRedisPermissions)
	}
	terms := strings.Fields(permissions)
	if len(terms) == 0 || len(terms) > maxRedisTerms {
		return nil, badPermissions("must have 1 to %d terms, such as +@read and ~cache:*", maxRedisTerms)
	}
	root := redisSelector{}
	var selectors []string
	for i := 0; i < len(terms); i++ {
		if !strings.HasPrefix(terms[i], "(") {
			if err := root.add(terms[i]); err != nil {
				return nil, err
			}
			continue
		}
		n, text, err := redisSelectorOf(terms[i:])
		if err != nil {
			return nil, err
		}
		selectors, i = append(selectors, text), i+n-1
	}
	return append(root.rules(), selectors...), nil
}

// redisSelectorOf reads ( … ), a second set of rules of the same user. What the
// user never may stands in each of them.
func redisSelectorOf(terms []string) (n int, text string, err error) {
	s := redisSelector{}
	for n < len(terms) {
		t := terms[n]
		if n == 0 {
			t = strings.TrimPrefix(t, "(")
		}
		n++
		last := strings.HasSuffix(t, ")")
		t = strings.TrimSuffix(t, ")")
		if t != "" {
			if strings.ContainsAny(t, "()") {
				return 0, "", badPermissions("have a selector within a selector, or a parenthesis in one's pattern")
			}
			if err := s.add(t); err != nil {
				return 0, "", err
			}
		}
		if last {
			return n, "(" + strings.Join(s.rules(), " ") + ")", nil
		}
	}
	return 0, "", badPermissions("have a selector that is not closed")
}

func badPermissions(format string, args ...any) error {
	return az.Errorf(az.Invalid, "InvalidPermissions", "The permissions of a data access policy "+format+".", args...)
}

// redisSelector is one set of rules in the making.
type redisSelector struct {
	terms                []string
	allKeys, allChannels bool
	channels             bool // something was said of channels
}

// rules ends the set. A policy that says nothing of channels leaves them all
// open to whom it gives the commands: on Azure, whose servers are of version 6,
// policies cannot speak of channels.
func (s *redisSelector) rules() []string {
	out := s.terms
	if !s.channels {
		out = append(out, "allchannels")
	}
	return append(out, strings.Fields(redisNever)...)
}

func (s *redisSelector) add(term string) error {
	lower := strings.ToLower(term)
	switch {
	case lower == "allkeys":
		s.allKeys = true
	case lower == "resetkeys":
		s.allKeys = false
	case lower == "allchannels":
		s.channels, s.allChannels = true, true
	case lower == "resetchannels":
		s.channels, s.allChannels = true, false
	case lower[0] == '+' || lower[0] == '-':
		if err := checkRedisCommand(lower); err != nil {
			return err
		}
	case lower[0] == '&':
		if s.allChannels {
			return badPermissions("have the pattern %q behind allchannels, where it would change nothing; leave one of them out", term)
		}
		s.channels = true
		return s.pattern(term, term[1:])
	default:
		return s.keys(term)
	}
	s.terms = append(s.terms, lower)
	return nil
}

// keys reads ~pattern, %R~pattern, %W~pattern and %RW~pattern.
func (s *redisSelector) keys(term string) error {
	pattern, ok := strings.CutPrefix(term, "~")
	for _, p := range []string{"%R~", "%W~", "%RW~"} {
		if rest, found := strings.CutPrefix(term, p); found {
			pattern, ok = rest, true
		}
	}
	if !ok {
		return badPermissions("hold %q, which is not served; they may hold +command, -command, +@category, -@category, ~pattern, %%R~pattern, %%W~pattern, &pattern, allkeys, resetkeys, allchannels and resetchannels", term)
	}
	if s.allKeys {
		return badPermissions("have the pattern %q behind allkeys, where it would change nothing; leave one of them out", term)
	}
	s.allKeys = pattern == "*"
	return s.pattern(term, pattern)
}

// pattern takes a pattern of keys or channels. Quotes would end what the server
// writes into its files, and parentheses would begin or end a selector.
func (s *redisSelector) pattern(term, pattern string) error {
	bad := func(r rune) bool {
		return r == '"' || r == '\'' || r == '(' || r == ')' || r == unicode.ReplacementChar || !unicode.IsPrint(r)
	}
	if pattern == "" || strings.ContainsFunc(pattern, bad) {
		return badPermissions("hold the pattern %q: it must not be empty and must have no quotes, parentheses or control characters", term)
	}
	s.terms = append(s.terms, term)
	return nil
}

// checkRedisCommand takes +command, +command|subcommand, +@category, and the
// same with a minus.
func checkRedisCommand(term string) error {
	name := term[1:]
	if category, ok := strings.CutPrefix(name, "@"); ok {
		if !redisCategories[category] {
			return badPermissions("name the category %q, which Redis has not", category)
		}
		return nil
	}
	if !redisCommandWords[name] {
		return badPermissions("name the command %q, which Redis has not", name)
	}
	whole, _, _ := strings.Cut(name, "|")
	if term[0] == '+' && (redisForbidden[name] || redisForbidden[whole]) {
		return badPermissions("give the command %q, which nobody has through the plane: it changes or watches the server itself", name)
	}
	return nil
}
