-- +goose Up
-- One text for SQLite and PostgreSQL: text, bigint, bytea, boolean; times are
-- microseconds since 1970 UTC; no now().

-- feed holds the sequence number of the newest change: one row. Every writing
-- transaction locks it first, so transactions of several planes are serial.
create table feed (id bigint primary key, seq bigint not null);
insert into feed (id, seq) values (1, 0);

-- changes says what was changed, for the caches of every plane.
create table changes (
  seq bigint primary key,
  topic text not null,
  key text not null,
  at bigint not null
);
create index changes_at on changes (at);

create table meta (key text primary key, value bytea not null);

create table leases (name text primary key, holder text not null, until bigint not null);

-- resources holds every ARM resource. key is the folded id.
create table resources (
  key text primary key,
  id text not null,
  type_key text not null,
  parent text not null,
  group_key text not null,
  subscription text not null,
  etag text not null,
  body text not null,
  sealed bytea,
  created bigint not null,
  updated bigint not null
);
create index resources_type on resources (type_key, parent);
create index resources_parent on resources (parent);
create index resources_group on resources (group_key);

-- objects holds the directory: users, groups, applications, service principals.
create table objects (
  id text primary key,
  kind text not null,
  app_id text,
  name_key text not null,
  upn_key text,
  resource_key text,
  enabled boolean not null,
  body text not null,
  created bigint not null,
  updated bigint not null
);
create unique index objects_app on objects (kind, app_id);
create unique index objects_upn on objects (upn_key);
create unique index objects_resource on objects (resource_key);
create index objects_name on objects (kind, name_key);

create table members (
  group_id text not null,
  member_id text not null,
  primary key (group_id, member_id)
);
create index members_member on members (member_id);

-- credentials: keyed hashes of client secrets, argon2id of passwords,
-- certificates, federated identity credentials.
create table credentials (
  owner text not null,
  id text not null,
  kind text not null,
  hash bytea,
  body text not null,
  expires bigint not null,
  created bigint not null,
  primary key (owner, id)
);

create table signing_keys (
  kid text primary key,
  alg text not null,
  certificate bytea not null,
  sealed bytea not null,
  active_from bigint not null,
  active_until bigint not null,
  retired_at bigint not null
);

-- +goose Down
drop table signing_keys;
drop table credentials;
drop table members;
drop table objects;
drop table resources;
drop table leases;
drop table meta;
drop table changes;
drop table feed;
