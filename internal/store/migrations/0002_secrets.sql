-- +goose Up
-- vaults holds what the data plane must know of every Key Vault, live and
-- soft-deleted. name_key is unique over the plane, since it is a host name;
-- serial is drawn at random for each creation and stands for the vault in the
-- other tables, so that a vault that is purged and made again finds nothing
-- of the old one. body keeps the ARM resource of a deleted vault.
create table vaults (
  name_key text primary key,
  serial bigint not null unique,
  key text not null unique,
  id text not null,
  location text not null,
  retention_days bigint not null,
  purge_protection boolean not null,
  rbac boolean not null,
  body text not null,
  created bigint not null,
  deleted bigint not null,
  purge_at bigint not null
);

-- secret_names holds one row for each secret; latest is its current version.
create table secret_names (
  vault bigint not null,
  name_key text not null,
  name text not null,
  latest text not null,
  versions bigint not null,
  deleted bigint not null,
  purge_at bigint not null,
  primary key (vault, name_key)
);
create index secret_names_purge on secret_names (purge_at);

create table secret_versions (
  vault bigint not null,
  name_key text not null,
  version text not null,
  number bigint not null,
  sealed bytea not null,
  content_type text not null,
  tags text not null,
  enabled boolean not null,
  not_before bigint not null,
  expires bigint not null,
  created bigint not null,
  updated bigint not null,
  primary key (vault, name_key, version)
);
create unique index secret_versions_number on secret_versions (vault, name_key, number);

-- +goose Down
drop table secret_versions;
drop table secret_names;
drop table vaults;
