package store

import (
	"context"
	"database/sql"
)

// Members calls each for every direct membership.
func (s *Store) Members(ctx context.Context, each func(group, member string)) error {
	return s.rows(ctx, `select group_id, member_id from members`, nil, func(r *sql.Rows) error {
		var g, m string
		if err := r.Scan(&g, &m); err != nil {
			return err
		}
		each(g, m)
		return nil
	})
}

// MembersOf lists the direct members of a group, in order of their ids.
func (s *Store) MembersOf(ctx context.Context, group string) ([]string, error) {
	var out []string
	err := s.rows(ctx, `select member_id from members where group_id = $1 order by member_id`, []any{group}, func(r *sql.Rows) error {
		var m string
		err := r.Scan(&m)
		out = append(out, m)
		return err
	})
	return out, err
}

// GroupsOf lists the groups that hold a member directly.
func (s *Store) GroupsOf(ctx context.Context, member string) ([]string, error) {
	var out []string
	err := s.rows(ctx, `select group_id from members where member_id = $1 order by group_id`, []any{member}, func(r *sql.Rows) error {
		var g string
		err := r.Scan(&g)
		out = append(out, g)
		return err
	})
	return out, err
}

// GroupsOf is the same inside a transaction.
func (tx *Tx) GroupsOf(member string) ([]string, error) {
	var out []string
	err := tx.rows(`select group_id from members where member_id = $1 order by group_id`, []any{member}, func(r *sql.Rows) error {
		var g string
		err := r.Scan(&g)
		out = append(out, g)
		return err
	})
	return out, err
}

// IsMember reports a direct membership.
func (s *Store) IsMember(ctx context.Context, group, member string) (bool, error) {
	var one int64
	return s.row(ctx, `select 1 from members where group_id = $1 and member_id = $2`, []any{group, member}, &one)
}

// AddMember makes member a direct member of group; Conflict if it is one.
func (tx *Tx) AddMember(group, member string) error {
	tx.changed(TopicMember, group+"/"+member)
	_, err := tx.exec(`insert into members (group_id, member_id) values ($1, $2)`, group, member)
	return err
}

// RemoveMember ends a direct membership.
func (tx *Tx) RemoveMember(group, member string) (removed bool, err error) {
	tx.changed(TopicMember, group+"/"+member)
	n, err := tx.exec(`delete from members where group_id = $1 and member_id = $2`, group, member)
	return n > 0, err
}

// RemoveMemberships ends every membership of an object and every membership
// in it, as when it is deleted.
func (tx *Tx) RemoveMemberships(object string) error {
	var pairs [][2]string
	err := tx.rows(`select group_id, member_id from members where group_id = $1 or member_id = $1`, []any{object}, func(r *sql.Rows) error {
		var p [2]string
		err := r.Scan(&p[0], &p[1])
		pairs = append(pairs, p)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if _, err := tx.RemoveMember(p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}
