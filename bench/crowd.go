package main

import (
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// crowd says how large a directory is. Groups hold ten people each, everybody
// is in one, and 200 after one another are nested, so that a person of the
// first is in 200.
type crowd struct{ people, groups int }

const (
	crowdPassword = "correct horse battery staple 1!"
	crowdNested   = 200
	crowdStep     = 5000 // written at a time
	crowdTeam     = 1000 // members of the one large group
)

func (c crowd) name() string { return count(float64(c.people)) + " people" }

// upn is the name of a person by number.
func (p *plane) upn(i int) string { return fmt.Sprintf("p%06d@%s", i, p.about.Domain) }

// startCrowd starts a plane whose directory was filled through its store: by
// HTTP it would take minutes.
func (b *bench) startCrowd(name string, c crowd) (p *plane, first, team string, err error) {
	if p, err = b.startPlane(name); err != nil {
		return nil, "", "", err
	}
	p.client.Close()
	p.server.stop()
	if first, team, err = p.fillCrowd(c); err != nil {
		return nil, "", "", err
	}
	p, err = b.startPlane(name)
	return p, first, team, err
}

// fillCrowd returns the id of person 0, who is in 200 nested groups, and of a
// group of 1,000.
func (p *plane) fillCrowd(c crowd) (first, team string, err error) {
	st, err := store.Open(p.b.ctx, store.Config{Dir: p.dir})
	if err != nil {
		return "", "", err
	}
	defer func() { _ = st.Close() }()
	dir := directory.New(directory.Config{Store: st})
	hash := directory.HashPassword(az.NewSecret(crowdPassword))
	people := make([]string, 0, c.people)
	for from := 0; from < c.people; from += crowdStep {
		err := st.Write(p.b.ctx, func(tx *store.Tx) error {
			people = people[:from] // it may run again
			for i := from; i < min(from+crowdStep, c.people); i++ {
				made, err := dir.AddUser(tx, p.somebody(i, c), hash)
				if err != nil {
					return err
				}
				people = append(people, made.ID)
			}
			return nil
		})
		if err != nil {
			return "", "", err
		}
	}
	err = st.Write(p.b.ctx, func(tx *store.Tx) error { return fillGroups(tx, dir, c, people) })
	if err != nil {
		return "", "", err
	}
	err = st.Write(p.b.ctx, func(tx *store.Tx) error {
		g, err := dir.AddGroup(tx, directory.Object{Name: "All hands"})
		if err != nil {
			return err
		}
		team = g.ID
		for _, id := range people[len(people)-min(crowdTeam, len(people)/2):] {
			if err := tx.AddMember(team, id); err != nil {
				return err
			}
		}
		return nil
	})
	return people[0], team, err
}

func (p *plane) somebody(i int, c crowd) directory.Object {
	return directory.Object{Name: fmt.Sprintf("Person %06d", i*7919%c.people), UPN: p.upn(i), Enabled: true,
		Facts: directory.Facts{Mail: strings.Replace(p.upn(i), p.about.Domain, "example.com", 1), GivenName: "Person", Surname: fmt.Sprintf("Family%d", i%1000),
			Profile: map[string]string{"department": fmt.Sprintf("D%d", i%50), "jobTitle": "Sailor"}}}
}

func fillGroups(tx *store.Tx, dir *directory.Directory, c crowd, people []string) error {
	before := ""
	for i := range c.groups {
		g, err := dir.AddGroup(tx, directory.Object{Name: fmt.Sprintf("Group %05d", i), Facts: directory.Facts{Description: "One of many"}})
		if err != nil {
			return err
		}
		for m := range 10 {
			if err := tx.AddMember(g.ID, people[(i*10+m)%len(people)]); err != nil {
				return err
			}
		}
		if i%crowdNested != 0 {
			if err := tx.AddMember(g.ID, before); err != nil {
				return err
			}
		}
		before = g.ID
	}
	return nil
}
