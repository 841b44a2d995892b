package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Person is a user of the directory.
type Person struct {
	ID                string `json:"id"`
	DisplayName       string `json:"displayName"`
	UserPrincipalName string `json:"userPrincipalName"`
	Mail              string `json:"mail,omitempty"`
	AccountEnabled    bool   `json:"accountEnabled"`
}

// Group is a security group of the directory.
type Group struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	Description string `json:"description,omitempty"`
}

// Member is what a group holds: a user, a group or a service principal.
type Member struct {
	Type              string `json:"@odata.type"` // #microsoft.graph.user …
	ID                string `json:"id"`
	DisplayName       string `json:"displayName"`
	UserPrincipalName string `json:"userPrincipalName,omitempty"`
}

// Graph sends a request to the plane's Microsoft Graph; path is below /v1.0.
func (c *Client) Graph(ctx context.Context, method, path string, in, out any) error {
	return c.DoHost(ctx, "graph."+c.plane.Domain, method, "/v1.0"+path, in, out)
}

// GraphList reads a whole list of Microsoft Graph.
func GraphList[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	all := []T{}
	err := c.Pages(ctx, "graph."+c.plane.Domain, "/v1.0"+path, func(page json.RawMessage) error {
		var part []T
		if err := json.Unmarshal(page, &part); err != nil {
			return fmt.Errorf("cannot read the list: %w", err)
		}
		all = append(all, part...)
		return nil
	})
	return all, err
}

const personFields = "$select=id,displayName,userPrincipalName,mail,accountEnabled"

// upn completes a bare name with the plane's domain.
func (c *Client) upn(name string) string {
	if strings.Contains(name, "@") {
		return name
	}
	return name + "@" + c.plane.Domain
}

// NewPerson says how to make a user.
type NewPerson struct {
	Name         string // user principal name; without @ the plane's domain is added
	DisplayName  string // "" takes the part before @
	Mail         string
	Password     string
	ChangeAtOnce bool // asks for another password at the first sign-in
}

// CreatePerson makes a user.
func (c *Client) CreatePerson(ctx context.Context, n NewPerson) (Person, error) {
	upn := c.upn(n.Name)
	nick, _, _ := strings.Cut(upn, "@")
	if n.DisplayName == "" {
		n.DisplayName = nick
	}
	body := map[string]any{"displayName": n.DisplayName, "userPrincipalName": upn, "mailNickname": nick, "accountEnabled": true,
		"passwordProfile": map[string]any{"password": n.Password, "forceChangePasswordNextSignIn": n.ChangeAtOnce}}
	if n.Mail != "" {
		body["mail"] = n.Mail
	}
	var p Person
	err := c.Graph(ctx, http.MethodPost, "/users", body, &p)
	return p, err
}

// Person reads a user by id, user principal name, or the part before @.
func (c *Client) Person(ctx context.Context, name string) (Person, error) {
	if !isGUID(name) {
		name = c.upn(name)
	}
	var p Person
	err := c.Graph(ctx, http.MethodGet, "/users/"+url.PathEscape(name)+"?"+personFields, nil, &p)
	return p, err
}

// People lists all users by their names.
func (c *Client) People(ctx context.Context) ([]Person, error) {
	return GraphList[Person](ctx, c, "/users?$top=999&$orderby=userPrincipalName&"+personFields)
}

// ChangePerson patches a user.
func (c *Client) ChangePerson(ctx context.Context, name string, change map[string]any) error {
	p, err := c.Person(ctx, name)
	if err != nil {
		return err
	}
	return c.Graph(ctx, http.MethodPatch, "/users/"+p.ID, change, nil)
}

// DeletePerson removes a user.
func (c *Client) DeletePerson(ctx context.Context, name string) error {
	p, err := c.Person(ctx, name)
	if err != nil {
		return err
	}
	return c.Graph(ctx, http.MethodDelete, "/users/"+p.ID, nil, nil)
}

// Method is one way in which a person proves who they are.
type Method struct {
	Type        string `json:"@odata.type"` // #microsoft.graph.fido2AuthenticationMethod …
	ID          string `json:"id"`
	DisplayName string `json:"displayName,omitempty"`
	Created     string `json:"createdDateTime"`
}

// methodCollections are where Graph keeps the methods that can be taken away.
var methodCollections = map[string]string{
	"#microsoft.graph.softwareOathAuthenticationMethod": "softwareOathMethods",
	"#microsoft.graph.fido2AuthenticationMethod":        "fido2Methods",
}

// Methods lists the ways in which a person proves who they are.
func (c *Client) Methods(ctx context.Context, name string) ([]Method, error) {
	p, err := c.Person(ctx, name)
	if err != nil {
		return nil, err
	}
	return GraphList[Method](ctx, c, "/users/"+p.ID+"/authentication/methods")
}

// ResetMethods takes every second factor from a person, and says how many
// there were. What was signed in for ends.
func (c *Client) ResetMethods(ctx context.Context, name string) (removed int, err error) {
	p, err := c.Person(ctx, name)
	if err != nil {
		return 0, err
	}
	all, err := c.Methods(ctx, p.ID)
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if where, ok := methodCollections[m.Type]; ok {
			if err := c.Graph(ctx, http.MethodDelete, "/users/"+p.ID+"/authentication/"+where+"/"+url.PathEscape(m.ID), nil, nil); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// CreateGroup makes a security group.
func (c *Client) CreateGroup(ctx context.Context, name, description string) (Group, error) {
	body := map[string]any{"displayName": name, "mailEnabled": false, "securityEnabled": true}
	if description != "" {
		body["description"] = description
	}
	var g Group
	err := c.Graph(ctx, http.MethodPost, "/groups", body, &g)
	return g, err
}

// Group reads a group by id, or by a name that only one group has.
func (c *Client) Group(ctx context.Context, name string) (g Group, err error) {
	if isGUID(name) {
		err = c.Graph(ctx, http.MethodGet, "/groups/"+name, nil, &g)
		return g, err
	}
	q := url.Values{"$filter": {"displayName eq '" + strings.ReplaceAll(name, "'", "''") + "'"}}
	all, err := GraphList[Group](ctx, c, "/groups?"+q.Encode())
	switch {
	case err != nil:
		return g, err
	case len(all) == 0:
		return g, &Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no group with the name %q", name)}
	case len(all) > 1:
		return g, fmt.Errorf("%d groups have the name %q: name one by its id", len(all), name)
	}
	return all[0], nil
}

// Groups lists all groups by their names.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return GraphList[Group](ctx, c, "/groups?$top=999&$orderby=displayName")
}

// DeleteGroup removes a group.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	g, err := c.Group(ctx, name)
	if err != nil {
		return err
	}
	return c.Graph(ctx, http.MethodDelete, "/groups/"+g.ID, nil, nil)
}

// Members lists what a group holds directly.
func (c *Client) Members(ctx context.Context, group string) ([]Member, error) {
	g, err := c.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	return GraphList[Member](ctx, c, "/groups/"+g.ID+"/members?$top=999&$select=id,displayName,userPrincipalName")
}

// AddMember puts an object into a group.
func (c *Client) AddMember(ctx context.Context, group, member string) error {
	g, err := c.Group(ctx, group)
	if err != nil {
		return err
	}
	id, err := c.member(ctx, member)
	if err != nil {
		return err
	}
	ref := map[string]string{"@odata.id": "https://graph." + c.plane.Domain + "/v1.0/directoryObjects/" + id}
	return c.Graph(ctx, http.MethodPost, "/groups/"+g.ID+"/members/$ref", ref, nil)
}

// RemoveMember takes an object out of a group.
func (c *Client) RemoveMember(ctx context.Context, group, member string) error {
	g, err := c.Group(ctx, group)
	if err != nil {
		return err
	}
	id, err := c.member(ctx, member)
	if err != nil {
		return err
	}
	return c.Graph(ctx, http.MethodDelete, "/groups/"+g.ID+"/members/"+id+"/$ref", nil, nil)
}

// member finds who is meant: an id, a person, a group, or a service principal
// (an app's identity among them) of that display name.
func (c *Client) member(ctx context.Context, name string) (string, error) {
	if isGUID(name) {
		return name, nil
	}
	p, err := c.Person(ctx, name)
	if err == nil || strings.Contains(name, "@") || !IsStatus(err, http.StatusNotFound) {
		return p.ID, err
	}
	g, err := c.Group(ctx, name)
	if err == nil || !IsStatus(err, http.StatusNotFound) {
		return g.ID, err
	}
	q := url.Values{"$filter": {"displayName eq '" + strings.ReplaceAll(name, "'", "''") + "'"}, "$select": {"id"}}
	all, err := GraphList[Member](ctx, c, "/servicePrincipals?"+q.Encode())
	switch {
	case err != nil:
		return "", err
	case len(all) == 1:
		return all[0].ID, nil
	case len(all) > 1:
		return "", fmt.Errorf("%d service principals have the name %q: name one by its id", len(all), name)
	}
	return "", errors.New("there is no person, group, app or identity with this name")
}

func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
