package connector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// RedisType is the type of caches, CognitiveType that of Azure AI services.
const (
	RedisType     = "Microsoft.Cache/redis"
	CognitiveType = "Microsoft.CognitiveServices/accounts"
)

var (
	redisVersions     = []string{"2022-06-01", "2023-08-01", "2024-11-01"}
	cognitiveVersions = []string{"2022-03-01", "2023-05-01", "2024-10-01"}
)

// The names of the keys of both.
const (
	firstKey  = "primary"
	secondKey = "secondary"
)

// redisProperties is a cache. Its keys are in the Secrets.
type redisProperties struct {
	SKU                 redisSKU        `json:"sku"`
	Version             string          `json:"redisVersion,omitempty"`
	Configuration       json.RawMessage `json:"redisConfiguration,omitempty"`
	NonTLSPort          bool            `json:"enableNonSslPort"`
	MinimumTLSVersion   string          `json:"minimumTlsVersion,omitempty"`
	PublicNetworkAccess string          `json:"publicNetworkAccess,omitempty"`
	NoKeys              bool            `json:"disableAccessKeyAuthentication,omitempty"`
	// Login and Password are the owner's of the real server. Azure has none; the
	// words are those of its other servers.
	Login    string      `json:"administratorLogin,omitempty"`
	Password string      `json:"administratorLoginPassword,omitempty"` // Check moves it to the Secrets
	Hawser   *redisPlace `json:"hawser,omitempty"`
}

type redisSKU struct {
	Name     string `json:"name"`
	Family   string `json:"family"`
	Capacity int    `json:"capacity"`
}

var redisName = label{min: 1, max: 63, dashes: true, upper: true}

// newRedisKey has the form of a cache's key: 33 bytes, 44 letters.
func newRedisKey() az.Secret {
	return az.NewSecret(base64.StdEncoding.EncodeToString(randomBytes(33)))
}

func (c *Connector) redisType() *arm.Type[redisProperties] {
	return arm.Define(RedisType, redisVersions, arm.Hooks[redisProperties]{
		Check: c.checkRedis, View: c.viewRedis,
		Apply: c.applyRedis,
		After: func(ctx context.Context, r, old *arm.Resource[redisProperties]) {
			if old != nil && movedRedis(r, old) {
				c.tidy(ctx, c.redisUsersOf(ctx, r.ID, "")...)
			}
		},
		Actions: map[string]arm.ResourceAction[redisProperties]{
			"listKeys": {Run: func(_ context.Context, _ *arm.Call, r *arm.Resource[redisProperties]) (any, error) {
				return redisKeyList(r), nil
			}},
			"regenerateKey": {Run: c.regenerateRedisKey},
		},
	})
}

// aloneAtServer refuses a second cache in front of one server: a principal has
// one user there, which cannot have the rules of two policies.
func (c *Connector) aloneAtServer(tx *store.Tx, r *arm.Resource[redisProperties]) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: RedisType})
	if err != nil || r.Properties.Hawser == nil {
		return err
	}
	for _, row := range rows {
		if row.ID.Equal(r.ID) {
			continue
		}
		o, err := c.redis.Read(tx, row.ID)
		if err != nil {
			return err
		}
		if h := r.Properties.Hawser; o != nil && o.Properties.Hawser != nil && strings.EqualFold(o.Properties.Hawser.Host, h.Host) && o.Properties.Hawser.Port == h.Port {
			return az.Errorf(az.Conflict, "BackendInUse", "Another cache of this plane stands in front of the Redis server %s already: use that one; a principal can have one access policy at a server.", redisBackendOf(r).addr())
		}
	}
	return nil
}

func (c *Connector) applyRedis(tx *store.Tx, r, old *arm.Resource[redisProperties]) error {
	if err := c.aloneAtServer(tx, r); err != nil {
		return err
	}
	if old != nil {
		if movedRedis(r, old) {
			return c.adoptRedisUsers(tx, r.ID)
		}
		return nil
	}
	if err := c.applyRedisPolicies(tx, r.ID); err != nil {
		return err
	}
	return onlyOne(tx, RedisType, r.ID, az.Errorf(az.Conflict, "NameNotAvailable", "An error occurred when trying to reserve the DNS name for the cache. This may be a temporary issue. Please try again, or choose another name."))
}

// movedRedis reports whether another server stands behind a cache than before.
func movedRedis(r, old *arm.Resource[redisProperties]) bool {
	now, was := r.Properties.Hawser, old.Properties.Hawser
	return now != nil && (was == nil || now.Host != was.Host || now.Port != was.Port)
}

func (c *Connector) checkRedis(ctx context.Context, call *arm.Call, r, old *arm.Resource[redisProperties]) error {
	p := &r.Properties
	if !redisName.ok(r.ID.Name()) || strings.Contains(r.ID.Name(), "--") {
		return az.Errorf(az.Invalid, "InvalidParameter", "A cache's name must have 1 to 63 letters, digits and single dashes, with no dash at either end.")
	}
	located(r)
	switch strings.ToLower(p.SKU.Name) {
	case "basic", "standard", "premium":
		p.SKU.Name = strings.ToUpper(p.SKU.Name[:1]) + strings.ToLower(p.SKU.Name[1:])
	default:
		return az.Errorf(az.Invalid, "InvalidRequestBody", "properties.sku.name must be Basic, Standard or Premium.")
	}
	if p.SKU.Family = strings.ToUpper(p.SKU.Family); p.SKU.Family != "C" && p.SKU.Family != "P" || p.SKU.Capacity < 0 || p.SKU.Capacity > 6 {
		return az.Errorf(az.Invalid, "InvalidRequestBody", "properties.sku.family must be C or P, and its capacity from 0 to 6.")
	}
	p.Version = orText(p.Version, "6.0")
	withKeys(r, newRedisKey, firstKey, secondKey)
	if err := checkRedisSettings(p); err != nil {
		return err
	}
	return c.placeRedis(ctx, call, r, old)
}

func (c *Connector) viewRedis(_ context.Context, _ *arm.Call, r *arm.Resource[redisProperties]) (any, error) {
	return merged(r.Properties, map[string]any{
		"hostName": c.cfg.Names.Of(az.SurfaceRedis, r.ID.Name()), "port": 6379, "sslPort": 6380, "accessKeys": nil,
		"redisConfiguration": shownRedisSettings(r.Properties.Configuration), "publicNetworkAccess": orText(r.Properties.PublicNetworkAccess, enabled),
		"minimumTlsVersion": orText(r.Properties.MinimumTLSVersion, "1.2"), "linkedServers": []any{}, "instances": []any{},
	})
}

func redisKeyList(r *arm.Resource[redisProperties]) any {
	return map[string]any{"primaryKey": r.Secrets[firstKey].Reveal(), "secondaryKey": r.Secrets[secondKey].Reveal()}
}

func (c *Connector) regenerateRedisKey(ctx context.Context, call *arm.Call, r *arm.Resource[redisProperties]) (any, error) {
	var in struct {
		Type string `json:"keyType"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	kind := strings.ToLower(in.Type)
	if kind != firstKey && kind != secondKey {
		return nil, az.Errorf(az.Invalid, "InvalidRequestBody", "keyType must be Primary or Secondary.")
	}
	out, err := rekey(ctx, c.cfg.Store, c.redis, r.ID, func(r *arm.Resource[redisProperties], _ time.Time) { r.Secrets[kind] = newRedisKey() })
	if err != nil {
		return nil, err
	}
	return redisKeyList(out), nil
}

// redisKeys gives the plane a cache's keys; none if it is not there.
func (c *Connector) redisKeys(ctx context.Context, id az.ID) ([]az.Secret, error) {
	return keysOf(ctx, c.redis, id, firstKey, secondKey)
}

func (c *Connector) redisRoutes(api *arm.API) {
	api.Handle(http.MethodPost, "/subscriptions/{subscription}/providers/Microsoft.Cache/checkNameAvailability", guard.Action{},
		func(ctx context.Context, call *arm.Call) (any, error) {
			var in struct {
				Name string `json:"name"`
			}
			if err := call.Decode(&in); err != nil {
				return nil, err
			}
			taken, err := c.nameTaken(ctx, RedisType, in.Name)
			if err == nil && (taken || !redisName.ok(in.Name)) {
				err = az.Errorf(az.Conflict, "NameNotAvailable", "The name of the cache is not available: it is taken, or it is no name for a host.")
			}
			return map[string]any{}, err
		})
}

// cognitiveProperties is an Azure AI services account, Azure OpenAI among them.
type cognitiveProperties struct {
	CustomSubDomain     string          `json:"customSubDomainName,omitempty"`
	PublicNetworkAccess string          `json:"publicNetworkAccess,omitempty"`
	NetworkACLs         json.RawMessage `json:"networkAcls,omitempty"`
	DisableLocalAuth    bool            `json:"disableLocalAuth,omitempty"`
}

var cognitiveName = label{min: 2, max: 64, dashes: true, upper: true}

func (c *Connector) cognitiveType() *arm.Type[cognitiveProperties] {
	return arm.Define(CognitiveType, cognitiveVersions, arm.Hooks[cognitiveProperties]{
		Check: func(_ context.Context, _ *arm.Call, r, _ *arm.Resource[cognitiveProperties]) error {
			if sub := r.Properties.CustomSubDomain; !cognitiveName.ok(r.ID.Name()) || sub != "" && !cognitiveName.ok(sub) {
				return az.Errorf(az.Invalid, "AccountNameInvalid", "The name of an account and its customSubDomainName must have 2 to 64 letters, digits and dashes, with no dash at either end.")
			}
			located(r)
			if r.Kind == "" {
				return az.Errorf(az.Invalid, "InvalidKind", "The kind of the account is missing, such as OpenAI or CognitiveServices.")
			}
			r.SKU = or(r.SKU, `{"name":"S0"}`)
			withKeys(r, newHexKey, firstKey, secondKey)
			return nil
		},
		Apply: func(tx *store.Tx, r, old *arm.Resource[cognitiveProperties]) error {
			if old != nil {
				return nil
			}
			return onlyOne(tx, CognitiveType, r.ID, az.Errorf(az.Conflict, "CustomDomainInUse", "The account name is already used; choose another."))
		},
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[cognitiveProperties]) (any, error) {
			return merged(r.Properties, map[string]any{
				"endpoint":            c.endpoint(orText(r.Properties.CustomSubDomain, r.ID.Name()), "cognitiveservices"),
				"publicNetworkAccess": orText(r.Properties.PublicNetworkAccess, enabled), "dateCreated": r.Created.Time().Format(time.RFC3339Nano),
				"capabilities": []any{}, "callRateLimit": map[string]any{"rules": []any{}}, "internalId": az.NamedGUID("hawser/cognitive", r.ID.Key()),
				"privateEndpointConnections": []any{}, "isMigrated": false,
			})
		},
		Actions: map[string]arm.ResourceAction[cognitiveProperties]{
			"listKeys": {Run: func(_ context.Context, _ *arm.Call, r *arm.Resource[cognitiveProperties]) (any, error) {
				return cognitiveKeyList(r), nil
			}},
			"regenerateKey": {Run: c.regenerateCognitiveKey},
		},
	})
}

func cognitiveKeyList(r *arm.Resource[cognitiveProperties]) any {
	return map[string]any{"key1": r.Secrets[firstKey].Reveal(), "key2": r.Secrets[secondKey].Reveal()}
}

func (c *Connector) regenerateCognitiveKey(ctx context.Context, call *arm.Call, r *arm.Resource[cognitiveProperties]) (any, error) {
	var in struct {
		Name string `json:"keyName"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	kind, ok := map[string]string{"key1": firstKey, "key2": secondKey}[strings.ToLower(in.Name)]
	if !ok {
		return nil, az.Errorf(az.Invalid, "InvalidRequest", "keyName must be Key1 or Key2.")
	}
	out, err := rekey(ctx, c.cfg.Store, c.cognitive, r.ID, func(r *arm.Resource[cognitiveProperties], _ time.Time) { r.Secrets[kind] = newHexKey() })
	if err != nil {
		return nil, err
	}
	return cognitiveKeyList(out), nil
}
