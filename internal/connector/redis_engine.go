package connector

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
)

// redisEngine is the engine of Redis. A role there is an ACL user, whose rules
// are those of the data access policy that its principal has; databases are
// numbers and know no rights of their own. redis_users.go has what it sends.
type redisEngine struct {
	*redisBackend
	c     *Connector
	cache az.ID
}

func (c *Connector) redisEngine(ctx context.Context, cache az.ID) (*redisEngine, error) {
	b, err := c.redisServer(ctx, cache)
	if err != nil {
		return nil, err
	}
	return &redisEngine{redisBackend: b, c: c, cache: cache}, nil
}

// rules are those of the policy that a user's principal has now.
func (e *redisEngine) rules(ctx context.Context, user string) ([]string, error) {
	all, err := e.c.redisAssigns.LoadIn(ctx, e.cache)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if redisUser(a.Properties.Object) == user {
			return e.c.redisRulesOf(ctx, e.cache, a.Properties.Policy)
		}
	}
	return nil, az.Errorf(az.Conflict, "AccessPolicyNotAssigned", "The principal has no access policy of the cache '%s' any more.", e.cache.Name())
}

// has refuses a database whose number the server does not have.
func (e *redisEngine) has(ctx context.Context, database string) error {
	if database == "" {
		database = "0"
	}
	missing := az.Errorf(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the Redis server %s.", database, e.addr())
	n, err := strconv.Atoi(database)
	if err != nil || n < 0 {
		return missing
	}
	conn, err := e.owner(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	err = conn.Do(ctx, "SELECT", n).Err()
	var said redis.Error
	if errors.As(err, &said) && !strings.HasPrefix(err.Error(), "NOPERM") {
		return missing.Because(err)
	}
	if err != nil {
		return redisFault("look for the database", err)
	}
	return nil
}

func (e *redisEngine) realise(ctx context.Context, r roleSpec, _ grant, lower bool) (made bool, err error) {
	rules, err := e.rules(ctx, r.Name)
	if err != nil {
		return false, err
	}
	made, changed, err := e.setUser(ctx, r.Name, r.Password, rules)
	if err != nil || made || !lower || !changed {
		return made, err
	}
	return false, e.endSessions(ctx, r.Name)
}

// setPassword lets the user in with this password, too; settled takes the
// others from it, once the store has this one.
func (e *redisEngine) setPassword(ctx context.Context, r roleSpec) (made bool, err error) {
	rules, err := e.rules(ctx, r.Name)
	if err != nil {
		return false, err
	}
	err = e.addPassword(ctx, r.Name, r.Password, rules)
	if !az.Is(err, az.NotFound) {
		return false, err
	}
	return e.realise(ctx, r, grant{}, false)
}

func (e *redisEngine) settled(ctx context.Context, r roleSpec) error {
	return nilIf(e.keepPassword(ctx, r.Name, r.Password), az.NotFound)
}

func (e *redisEngine) shrink(ctx context.Context, r roleSpec) (made bool, err error) {
	return e.realise(ctx, r, grant{}, true)
}

func (e *redisEngine) drop(ctx context.Context, r roleSpec) error {
	if !strings.HasPrefix(r.Name, redisUserPrefix) {
		return nil
	}
	return e.dropUser(ctx, r.Name)
}

func (e *redisEngine) terminate(ctx context.Context, role string, session uint64) error {
	return e.endSession(ctx, role, session)
}

// redisProofs are what a user with an access may do at least.
var redisProofs = map[Access][]string{Read: {"GET"}, Write: {"GET", "SET"}, Owner: {"GET", "SET", "FLUSHDB"}}

// probe logs a user in, and asks the server what it may. Nothing is written.
func (e *redisEngine) probe(ctx context.Context, user string, password az.Secret, database string, access Access) error {
	if err := e.has(ctx, database); err != nil {
		return err
	}
	conn, err := e.login(ctx, e.addr(), e.Host, user, password)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	owner, err := e.owner(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = owner.Close() }()
	for _, command := range redisProofs[access] {
		args := map[string][]any{"GET": {"x"}, "SET": {"x", "x"}}[command]
		said, err := owner.Do(ctx, append([]any{"ACL", "DRYRUN", user, command}, args...)...).Text()
		if err != nil {
			return redisFault("ask what the user may", err)
		}
		if said != "OK" {
			return az.Errorf(az.Forbidden, "RoleLacksPrivilege", "The user %q may not %s on the Redis server %s.", user, command, e.addr())
		}
	}
	return nil
}

func (e *redisEngine) preview(ctx context.Context, r roleSpec, on grant) (statements, notes []string, err error) {
	rules, err := e.rules(ctx, r.Name)
	if az.Is(err, az.Conflict) { // it is to get one
		rules, err = redisRules(redisBuiltIn[redisPolicyOf(on.Access)])
	}
	if err != nil {
		return nil, nil, err
	}
	return []string{"ACL SETUSER " + r.Name + " reset on #… " + strings.Join(rules, " ")}, nil, nil
}

// redisPolicyOf is the built-in policy for an access.
func redisPolicyOf(a Access) string {
	switch a {
	case Owner:
		return "Data Owner"
	case Read:
		return "Data Reader"
	}
	return "Data Contributor"
}

func (e *redisEngine) where() (host string, port int, hidden bool) { return e.Host, e.Port, false }

// redisUserRules reads a user's rules as the server writes them, without its
// passwords; none if it is not there.
func redisUserRules(ctx context.Context, c *redis.Client, user string) ([]string, error) {
	all, err := c.ACLList(ctx).Result()
	if err != nil {
		return nil, redisFault("look the user up", err)
	}
	for _, line := range all {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "user" && f[1] == user {
			return slices.DeleteFunc(f[2:], func(t string) bool { return t[0] == '#' }), nil
		}
	}
	return nil, nil
}
