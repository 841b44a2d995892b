-- +goose Up
-- object_names holds the further names of an application, such as its
-- identifier URIs: each names one object only. name is folded.
create table object_names (
  name text primary key,
  object text not null
);
create index object_names_object on object_names (object);

-- assertions remembers client assertions until they end, so that none is
-- accepted from somebody else. key and proof are hashes.
create table assertions (
  key text primary key,
  proof text not null,
  until bigint not null
);
create index assertions_until on assertions (until);

-- +goose Down
drop table assertions;
drop table object_names;
