package connector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
)

// redisUserPrefix begins the name of every user that the plane makes; by it
// they are known as the plane's.
const redisUserPrefix = "hawser-"

// redisUser is the name of the backend's user for a principal.
func redisUser(oid string) string { return redisUserPrefix + oid }

// redisPassword is a password as a rule: its digest, so that the password is
// never sent but at a login, and stands in none of the server's logs.
func redisPassword(p az.Secret) string {
	sum := sha256.Sum256([]byte(p.Reveal()))
	return "#" + hex.EncodeToString(sum[:])
}

// setUser gives a user exactly its rules and password, on every node. The
// server does all terms of one command or none, and open sessions have the new
// rules from then on. made: it was not there on some node; changed: it had other
// rules on some.
func (b *redisBackend) setUser(ctx context.Context, user string, password az.Secret, rules []string) (made, changed bool, err error) {
	terms := append([]string{"reset", "on", redisPassword(password)}, rules...)
	err = b.eachNode(ctx, func(c *redis.Client) error {
		before, err := redisUserRules(ctx, c, user)
		if err != nil {
			return err
		}
		if err := c.ACLSetUser(ctx, user, terms...).Err(); err != nil {
			return redisFault("make the user", err)
		}
		after, err := redisUserRules(ctx, c, user)
		if err != nil {
			return err
		}
		made, changed = made || before == nil, changed || !slices.Equal(before, after)
		return saveRedisUsers(ctx, c)
	})
	return made && err == nil, changed, err
}

// addPassword lets a user in with one more password, and gives it exactly its
// rules again: a node may have been away when they were lowered. keepPassword
// takes every other password from it. Sessions are not touched by either.
func (b *redisBackend) addPassword(ctx context.Context, user string, password az.Secret, rules []string) error {
	terms := append([]string{"on", "resetkeys", "resetchannels", "clearselectors", "-@all", redisPassword(password)}, rules...)
	return b.changeUser(ctx, user, func([]string) []string { return terms })
}

func (b *redisBackend) keepPassword(ctx context.Context, user string, password az.Secret) error {
	keep := redisPassword(password)[1:]
	return b.changeUser(ctx, user, func(has []string) []string {
		terms := []string{"#" + keep}
		for _, h := range has {
			if h != keep {
				terms = append(terms, "!"+h)
			}
		}
		return terms
	})
}

func (b *redisBackend) changeUser(ctx context.Context, user string, change func(has []string) []string) error {
	return b.eachNode(ctx, func(c *redis.Client) error {
		has, err := redisUserOf(ctx, c, user)
		if err != nil {
			return err
		}
		if err := c.ACLSetUser(ctx, user, change(has)...).Err(); err != nil {
			return redisFault("change the user's password", err)
		}
		return saveRedisUsers(ctx, c)
	})
}

// dropUser removes a user and ends its sessions. It is no error if it is gone.
func (b *redisBackend) dropUser(ctx context.Context, user string) error {
	return b.eachNode(ctx, func(c *redis.Client) error {
		if err := c.ACLDelUser(ctx, user).Err(); err != nil {
			return redisFault("drop the user", err)
		}
		return saveRedisUsers(ctx, c)
	})
}

// endSessions ends a user's sessions.
func (b *redisBackend) endSessions(ctx context.Context, user string) error {
	return b.eachNode(ctx, func(c *redis.Client) error {
		if err := c.Do(ctx, "CLIENT", "KILL", "USER", user).Err(); err != nil && !isRedisMissing(err) {
			return redisFault("end the user's sessions", err)
		}
		return nil
	})
}

// endSession ends one session, if it is the user's.
func (b *redisBackend) endSession(ctx context.Context, user string, session uint64) error {
	c, err := b.owner(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.Do(ctx, "CLIENT", "KILL", "ID", session, "USER", user).Err(); err != nil && !isRedisMissing(err) {
		return redisFault("end the session", err)
	}
	return nil
}

// redisUserOf reads the digests of a user's passwords.
func redisUserOf(ctx context.Context, c *redis.Client, user string) (digests []string, err error) {
	v, err := c.Do(ctx, "ACL", "GETUSER", user).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, az.Errorf(az.NotFound, "RoleNotFound", "The server has no user %q.", user)
	}
	if err != nil {
		return nil, redisFault("look the user up", err)
	}
	for i := 0; i+1 < len(v); i += 2 {
		if v[i] != "passwords" {
			continue
		}
		list, _ := v[i+1].([]any)
		for _, d := range list {
			if s, ok := d.(string); ok {
				digests = append(digests, s)
			}
		}
	}
	return digests, nil
}

// saveRedisUsers writes users down where the server has a file for them. Where
// it has none they are gone when it restarts: the login that finds that out has
// its user made again.
func saveRedisUsers(ctx context.Context, c *redis.Client) error {
	err := c.Do(ctx, "ACL", "SAVE").Err()
	if err != nil && !strings.Contains(err.Error(), "not configured to use an ACL file") {
		return redisFault("write the users down", err)
	}
	return nil
}
