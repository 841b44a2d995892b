package signin

import (
	"context"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// match finds or makes the user that a provider's subject is. Only issuer and
// subject say who somebody is; a name links an account at most once, and never
// one that has a way to sign in of its own.
func (s *SignIn) match(ctx context.Context, c outsideClaims) (*directory.Object, error) {
	if err := s.store.Confirm(ctx); err != nil {
		return nil, err
	}
	from := c.Issuer + " " + c.Subject
	if user, ok, err := s.linked(ctx, from); err != nil || ok {
		return user, err
	}
	cfg := s.outside.cfg
	if !validName(c.Name) || !s.outside.speaksFor(c.Name, s.names.Domain) {
		return nil, az.Errorf(az.Forbidden, "NameNotTrusted", "%s did not give a verified account name that may be used here. Ask your administrator.", cfg.Name)
	}
	there, known, err := s.account(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case known && cfg.TrustNames:
		return s.linkNamed(ctx, there, from)
	case known:
		return nil, nameTaken()
	case cfg.Create:
		return s.createFrom(ctx, c, from)
	}
	return nil, az.Errorf(az.Forbidden, "AccountUnknown", "There is no account for you here yet. Ask your administrator.")
}

func nameTaken() error {
	return az.Errorf(az.Forbidden, "NameTaken", "An account of this name exists here, but it is not linked to the one you signed in with. Ask your administrator.")
}

// linked finds the user of an outside subject.
func (s *SignIn) linked(ctx context.Context, from string) (*directory.Object, bool, error) {
	oid, ok, err := s.store.SignInLink(ctx, from)
	if err != nil || !ok {
		return nil, false, err
	}
	user, ok, err := s.dir.Get(ctx, oid)
	if err != nil || !ok || user.Kind != az.User || user.From != from {
		return nil, false, err
	}
	return user, true, nil
}

// linkNamed links an account that was made for the person and that nobody can
// sign in to otherwise.
func (s *SignIn) linkNamed(ctx context.Context, user *directory.Object, from string) (*directory.Object, error) {
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		if other, ok, err := tx.SignInLink(from); err != nil {
			return err
		} else if ok && other != user.ID {
			return nameTaken()
		}
		creds, err := tx.Credentials(user.ID)
		if err != nil {
			return err
		}
		err = s.dir.ReviseUser(tx, user.ID, func(o *directory.Object) error {
			if len(creds) > 0 || o.From != "" && o.From != from {
				return nameTaken()
			}
			o.From = from
			return nil
		})
		if err != nil {
			return err
		}
		return tx.PutSignInLink(from, user.ID)
	})
	if err != nil {
		return nil, err
	}
	user, _, err = s.dir.Get(ctx, user.ID)
	return user, err
}

// createFrom makes the account of a person who comes for the first time. Two
// planes at once make one: the second finds the name taken, or the link.
func (s *SignIn) createFrom(ctx context.Context, c outsideClaims, from string) (*directory.Object, error) {
	name := c.Display
	if strings.TrimSpace(name) == "" {
		name, _, _ = strings.Cut(c.Name, "@")
	}
	var id string
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		if other, ok, err := tx.SignInLink(from); err != nil {
			return err
		} else if ok {
			if _, there, err := tx.Object(other); err != nil {
				return err
			} else if there {
				id = other
				return nil
			}
		}
		o := directory.Object{Name: name, UPN: c.Name, Enabled: true}
		o.From, o.GivenName, o.Surname = from, c.Given, c.Family
		if s.outside.cfg.UserClaim == "email" {
			o.Mail = c.Name
		}
		made, err := s.dir.AddUser(tx, o, "")
		if err != nil {
			return err
		}
		id = made.ID
		return tx.PutSignInLink(from, id)
	})
	if az.Is(err, az.Conflict) {
		return nil, nameTaken()
	}
	if az.Is(err, az.Invalid) {
		return nil, az.Errorf(az.Forbidden, "NameNotTrusted", "%s gave a name that an account cannot have here. Ask your administrator.", s.outside.cfg.Name).Because(err)
	}
	if err != nil {
		return nil, err
	}
	user, ok, err := s.dir.Get(ctx, id)
	if err == nil && !ok {
		err = stalePage()
	}
	return user, err
}

// mapGroups makes the person a member of the groups that the provider's claim
// is mapped to, and of no other group of the map.
func (s *SignIn) mapGroups(ctx context.Context, user *directory.Object, c outsideClaims) error {
	cfg := s.outside.cfg
	if cfg.GroupsClaim == "" || len(cfg.Groups) == 0 {
		return nil
	}
	want := map[string]bool{} // object id → wanted
	for value, group := range cfg.Groups {
		id, ok, err := s.groupID(ctx, group)
		if err != nil {
			return err
		}
		if !ok {
			s.log.Error("signin: a group of the outside provider's map is not there, or there are two of the name", "group", group)
			continue
		}
		want[id] = want[id] || slices.Contains(c.Groups, value)
	}
	have, err := s.store.GroupsOf(ctx, user.ID)
	if err != nil || !differs(want, have) {
		return err
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		have, err := tx.GroupsOf(user.ID)
		if err != nil {
			return err
		}
		for id, in := range want {
			switch is := slices.Contains(have, id); {
			case in && !is:
				err = s.dir.AddMember(tx, id, user.ID)
			case !in && is:
				_, err = tx.RemoveMember(id, user.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func differs(want map[string]bool, have []string) bool {
	for id, in := range want {
		if in != slices.Contains(have, id) {
			return true
		}
	}
	return false
}

// groupID finds a group by its object id or its display name.
func (s *SignIn) groupID(ctx context.Context, group string) (string, bool, error) {
	if az.IsGUID(group) {
		o, ok, err := s.dir.Get(ctx, strings.ToLower(group))
		if err != nil || !ok || o.Kind != az.Group {
			return "", false, err
		}
		return o.ID, true, nil
	}
	list, err := s.dir.Find(ctx, store.ObjectQuery{Kind: string(az.Group), Name: group, Limit: 2})
	if err != nil || len(list) != 1 {
		return "", false, err
	}
	return list[0].ID, true, nil
}
