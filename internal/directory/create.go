package directory

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// The functions here change the directory inside a transaction and ask nobody:
// they are for hooks and for the plane's own first start. What a caller asks
// for goes through the methods with a caller (manage.go), which check.

// maxName bounds display names. Source: Microsoft Graph limits displayName of
// every object kind to 256 characters.
const maxName = 256

func checkName(what, name string) error {
	if strings.TrimSpace(name) == "" {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'displayName' of the %s must not be empty.", what)
	}
	return checkText("displayName", name, maxName)
}

func checkText(property, text string, limit int) error {
	if utf8.RuneCountInString(text) > limit {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property '%s' is longer than %d characters.", property, limit)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property '%s' holds characters that it cannot have.", property)
	}
	return nil
}

func (d *Directory) insert(tx *store.Tx, o *Object) (*Object, error) {
	if o.ID == "" {
		o.ID = az.NewGUID()
	}
	if err := o.checkFacts(); err != nil {
		return nil, err
	}
	o.Created = tx.Now()
	r, err := o.row()
	if err != nil {
		return nil, err
	}
	return o, tx.InsertObject(r)
}

// AddApplication registers an application. Its id and application id are made
// unless given.
func (d *Directory) AddApplication(tx *store.Tx, o Object) (*Object, error) {
	o.Kind, o.Enabled = Application, true
	if o.AppID == "" {
		o.AppID = az.NewGUID()
	}
	if err := checkApplication(&o); err != nil {
		return nil, err
	}
	made, err := d.insert(tx, &o)
	if err != nil {
		return nil, err
	}
	return made, tx.SetNames(made.ID, o.IdentifierURIs)
}

// AddServicePrincipal gives an application its principal in the tenant.
func (d *Directory) AddServicePrincipal(tx *store.Tx, appID string) (*Object, error) {
	appID = strings.ToLower(appID)
	r, ok, err := tx.ObjectByApp(string(Application), appID)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest",
			"The appId '%s' of the service principal does not reference a valid application object.", appID)
	}
	app, err := fromRow(r)
	if err != nil {
		return nil, err
	}
	return d.insert(tx, &Object{Kind: az.ServicePrincipal, AppID: appID, Name: app.Name, Enabled: true})
}

// AddGroup adds a security group.
func (d *Directory) AddGroup(tx *store.Tx, o Object) (*Object, error) {
	o.Kind, o.Enabled, o.AppID, o.UPN = az.Group, true, "", ""
	if err := checkName("group", o.Name); err != nil {
		return nil, err
	}
	return d.insert(tx, &o)
}

// AddUser adds a person with a password made by HashPassword; an empty one
// lets nobody in.
func (d *Directory) AddUser(tx *store.Tx, o Object, passwordHash string) (*Object, error) {
	o.Kind, o.AppID = az.User, ""
	if err := checkUser(&o); err != nil {
		return nil, err
	}
	made, err := d.insert(tx, &o)
	if err != nil || passwordHash == "" {
		return made, err
	}
	return made, setPassword(tx, made.ID, passwordHash)
}

func checkUser(o *Object) error {
	if err := checkName("user", o.Name); err != nil {
		return err
	}
	// Source: RFC 5322 address form; Entra limits the local part to 64 and the
	// domain to 48 characters.
	local, domain, ok := strings.Cut(o.UPN, "@")
	if !ok || local == "" || domain == "" || len(local) > 64 || len(domain) > 255 || strings.ContainsAny(domain, "@/\\ ") {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'userPrincipalName' must have the form name@domain.")
	}
	if !plainUPN(local, domain) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'userPrincipalName' may hold letters from a to z, digits and ' . - _ ! # ^ ~ + before the @, with no dot at either end, and a host name behind it.")
	}
	return checkText("userPrincipalName", o.UPN, 320)
}

// plainUPN admits names that look like no other: a person is told by it on
// pages, in records and in databases. Source: "Prepare for directory
// synchronization", characters of userPrincipalName; & and + as in mail
// addresses, which a company's own provider may name people by.
func plainUPN(local, domain string) bool {
	letter := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	return !strings.ContainsFunc(local, func(c rune) bool { return !letter(c) && !strings.ContainsRune("'.-_!#^~+&", c) }) &&
		!strings.ContainsFunc(domain, func(c rune) bool { return !letter(c) && c != '.' && c != '-' }) &&
		strings.Trim(local, ".") == local && strings.Trim(domain, ".-") == domain && !strings.Contains(local+"@"+domain, "..")
}

// maxProfile and maxPhones bound a person's texts. Source: Microsoft Graph, at
// most 128 characters for most of them, 1,024 for streetAddress, one business
// phone of 64.
const (
	maxProfile = 1024
	maxPhones  = 10
)

func (o *Object) checkProfile() error {
	for name, text := range o.Profile {
		if err := checkText(name, text, maxProfile); err != nil {
			return err
		}
	}
	if len(o.BusinessPhones) > maxPhones {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'businessPhones' can hold at most %d numbers.", maxPhones)
	}
	for _, phone := range o.BusinessPhones {
		if err := checkText("businessPhones", phone, 64); err != nil {
			return err
		}
	}
	return nil
}

// maxTags is our bound on an object's tags.
const maxTags = 100

// checkFacts bounds the texts of an object. Source: Microsoft Graph limits
// description and notes to 1,024 characters; the others are ours.
func (o *Object) checkFacts() error {
	for _, f := range []struct {
		name, text string
		limit      int
	}{{"mail", o.Mail, 320}, {"mailNickname", o.MailNickname, 64}, {"givenName", o.GivenName, 64},
		{"surname", o.Surname, 64}, {"signInAudience", o.SignInAudience, 64}} {
		if err := checkText(f.name, f.text, f.limit); err != nil {
			return err
		}
	}
	if len(o.Tags) > maxTags || utf8.RuneCountInString(o.Description) > 1024 || utf8.RuneCountInString(o.Notes) > 1024 {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The object's description and notes can have 1024 characters each, and it can have %d tags.", maxTags)
	}
	if err := o.checkProfile(); err != nil {
		return err
	}
	for _, t := range o.Tags {
		if err := checkText("tags", t, 256); err != nil {
			return err
		}
	}
	return nil
}

// Update writes an object that was read and changed by the caller.
func (d *Directory) Update(tx *store.Tx, o *Object) error {
	if err := o.checkFacts(); err != nil {
		return err
	}
	r, err := o.row()
	if err != nil {
		return err
	}
	if err := tx.UpdateObject(r); err != nil || o.Kind != Application {
		return err
	}
	return tx.SetNames(o.ID, o.IdentifierURIs)
}

// Remove deletes an object with its credentials, its memberships and the role
// assignments of a principal; an application takes its service principal
// along. It is no error if there is none.
func (d *Directory) Remove(tx *store.Tx, id string) error {
	r, ok, err := tx.Object(id)
	if err != nil || !ok {
		return err
	}
	if r.Kind == string(Application) {
		sp, ok, err := tx.ObjectByApp(string(az.ServicePrincipal), r.AppID)
		if err != nil {
			return err
		}
		if ok {
			if err := d.Remove(tx, sp.ID); err != nil {
				return err
			}
		}
	}
	if err := tx.RemoveMemberships(id); err != nil {
		return err
	}
	if d.cfg.Unassign != nil && r.Kind != string(Application) {
		if err := d.cfg.Unassign(tx, id); err != nil {
			return err
		}
	}
	_, err = tx.DeleteObject(id)
	return err
}

// CreateIdentity gives an ARM resource its managed identity: a service
// principal that lives as long as the resource. It returns the one that is
// there if there is one.
func (d *Directory) CreateIdentity(tx *store.Tx, resource az.ID, name string) (oid, appID string, err error) {
	if resource.IsRoot() {
		return "", "", az.Errorf(az.Internal, "", "a managed identity needs a resource")
	}
	r, ok, err := tx.ObjectByResource(resource)
	if err != nil {
		return "", "", err
	}
	if ok {
		return r.ID, r.AppID, nil
	}
	o, err := d.insert(tx, &Object{Kind: az.ServicePrincipal, AppID: az.NewGUID(), Name: name, Enabled: true, Resource: resource})
	if err != nil {
		return "", "", err
	}
	return o.ID, o.AppID, nil
}

// DeleteIdentity ends a managed identity: from now on no token of it is
// accepted. It is no error if there is none.
func (d *Directory) DeleteIdentity(tx *store.Tx, oid string) error { return d.Remove(tx, oid) }

// PrincipalThere reports whether somebody who can hold a role has the id, as
// the transaction sees it.
func PrincipalThere(tx *store.Tx, oid string) (bool, error) {
	r, ok, err := tx.Object(strings.ToLower(oid))
	return ok && r.Kind != string(Application), err
}

// AddMember makes an object a direct member of a group. It refuses what cannot
// be a member and what would make a group a member of itself.
func (d *Directory) AddMember(tx *store.Tx, group, member string) error {
	g, ok, err := tx.Object(group)
	if err != nil {
		return err
	}
	if !ok || g.Kind != string(az.Group) {
		return notFound(group)
	}
	m, ok, err := tx.Object(member)
	if err != nil {
		return err
	}
	switch {
	case !ok:
		return notFound(member)
	case m.Kind == string(Application):
		return az.Errorf(az.Invalid, "Request_BadRequest", "An application cannot be a member of a group; add its service principal.")
	case m.Kind == string(az.Group):
		if err := refuseCycle(tx, group, member); err != nil {
			return err
		}
	}
	err = tx.AddMember(group, member)
	if az.Is(err, az.Conflict) {
		return az.Errorf(az.Invalid, "Request_BadRequest",
			"One or more added object references already exist for the following modified properties: 'members'.")
	}
	return err
}

// refuseCycle walks from the group up: the new member must not be found there.
func refuseCycle(tx *store.Tx, group, member string) error {
	seen := map[string]bool{group: true}
	for queue := []string{group}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == member {
			return az.Errorf(az.Invalid, "Request_BadRequest", "The group cannot be added: it would become a member of itself.")
		}
		up, err := tx.GroupsOf(queue[0])
		if err != nil {
			return err
		}
		for _, g := range up {
			if !seen[g] {
				seen[g] = true
				queue = append(queue, g)
			}
		}
	}
	return nil
}

func notFound(id string) error {
	if !az.IsGUID(id) {
		return az.Errorf(az.NotFound, "Request_ResourceNotFound", "Resource does not exist or one of its queried reference-property objects are not present.")
	}
	return az.Errorf(az.NotFound, "Request_ResourceNotFound",
		"Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}
