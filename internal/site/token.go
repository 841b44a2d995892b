package site

import (
	"context"
	"errors"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
)

// tokenReply is what runtimeToken answers.
type tokenReply struct {
	AccessToken string `json:"accessToken"`
	ExpiresOn   int64  `json:"expiresOn"`
	NotBefore   int64  `json:"notBefore"`
	RefreshOn   int64  `json:"refreshOn"`
	Resource    string `json:"resource"`
	ClientID    string `json:"clientId"`
	ObjectID    string `json:"objectId"`
	ResourceID  string `json:"resourceId"`
}

// Token gets a token for one of a site's identities, for a caller with the
// right Microsoft.Web/sites/runtimeToken/action.
func (s *Sites) Token(ctx context.Context, caller az.Principal, site az.ID, by IdentitySelector, resource string, refresh bool) (authority.Token, error) {
	if err := s.cfg.Guard.Check(ctx, caller, actionToken, site); err != nil {
		return authority.Token{}, err
	}
	r, err := s.load(ctx, site)
	if err != nil {
		return authority.Token{}, err
	}
	return s.token(ctx, r, by, resource, refresh)
}

// token selects, limits and asks the authority; the right was checked.
func (s *Sites) token(ctx context.Context, r *arm.Resource[properties], by IdentitySelector, resource string, refresh bool) (authority.Token, error) {
	if resource == "" {
		return authority.Token{}, az.Errorf(az.Invalid, "InvalidResource", "Name the resource that the token is for.")
	}
	who, err := s.identities(ctx, r)
	if err != nil {
		return authority.Token{}, err
	}
	one, err := pick(r.ID, who.all, by)
	if err != nil {
		return authority.Token{}, err
	}
	if wait := s.limit.take(s.cfg.Clock(), one.PrincipalID); wait > 0 {
		e := az.Errorf(az.TooMany, "TooManyRequests", "The identity asks for tokens faster than the plane gives them. Keep a token until it is old, and ask again after the time given.")
		e.RetryAfter = max(wait, time.Second)
		return authority.Token{}, e
	}
	t, err := s.cfg.Authority.IdentityToken(ctx, authority.IdentityRequest{ObjectID: one.PrincipalID, Resource: resource, Refresh: refresh})
	var e *az.Error
	if errors.As(err, &e) && e.Code == "invalid_resource" { // OAuth's word; identity endpoints look for ours
		err = az.Errorf(e.Kind, "InvalidResource", "%s", e.Message).Because(err)
	}
	return t, err
}

func (s *Sites) runtimeToken(ctx context.Context, call *arm.Call, r *arm.Resource[properties]) (any, error) {
	var in struct {
		Resource   string `json:"resource"`
		ClientID   string `json:"clientId"`
		ObjectID   string `json:"objectId"`
		ResourceID string `json:"resourceId"`
		Refresh    bool   `json:"refresh"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	t, err := s.token(ctx, r, IdentitySelector{in.ClientID, in.ObjectID, in.ResourceID}, in.Resource, in.Refresh)
	if err != nil {
		return nil, err
	}
	return &tokenReply{AccessToken: t.AccessToken.Reveal(), ExpiresOn: t.ExpiresOn.Unix(), NotBefore: t.NotBefore.Unix(),
		RefreshOn: t.RefreshOn.Unix(), Resource: in.Resource, ClientID: t.ClientID, ObjectID: t.ObjectID, ResourceID: t.ResourceID.String()}, nil
}
