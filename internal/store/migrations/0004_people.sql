-- +goose Up
-- permission_grants says which scopes of a resource a client may use for a
-- person, or for everybody (principal is then empty). scopes are parted by spaces.
create table permission_grants (
  id text primary key,
  client text not null,
  principal text not null,
  resource text not null,
  scopes text not null
);
create unique index permission_grants_key on permission_grants (client, principal, resource);
create index permission_grants_principal on permission_grants (principal);
create index permission_grants_resource on permission_grants (resource);

-- app_role_assignments gives an application's role to a person, a group or a
-- service principal.
create table app_role_assignments (
  id text primary key,
  principal text not null,
  resource text not null,
  role text not null,
  created bigint not null
);
create unique index app_role_assignments_key on app_role_assignments (principal, resource, role);
create index app_role_assignments_resource on app_role_assignments (resource);

-- owners manage a group, an application or a service principal.
create table owners (
  object text not null,
  owner text not null,
  primary key (object, owner)
);
create index owners_owner on owners (owner);

-- name_sort, upn_sort and mail_sort are the folded texts as bytes: bytes have
-- the same order and the same ranges under every collation, so that lists can
-- be sorted and searched by the beginning of a name. Rows from before are
-- filled at the next start.
alter table objects add column name_sort bytea;
alter table objects add column upn_sort bytea;
alter table objects add column mail_sort bytea;
create index objects_list on objects (kind, id);
create index objects_sort on objects (kind, name_sort, id);
create index objects_upn_sort on objects (kind, upn_sort, id);
create index objects_mail_sort on objects (kind, mail_sort, id);
create index objects_name_words on objects (name_key, id);
create index objects_upn_words on objects (upn_key, id);
create index objects_created on objects (kind, created, id);

-- +goose Down
drop index objects_created;
drop index objects_upn_words;
drop index objects_name_words;
drop index objects_mail_sort;
drop index objects_upn_sort;
drop index objects_sort;
drop index objects_list;
alter table objects drop column mail_sort;
alter table objects drop column upn_sort;
alter table objects drop column name_sort;
drop table owners;
drop table app_role_assignments;
drop table permission_grants;
