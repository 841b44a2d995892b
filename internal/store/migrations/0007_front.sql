-- +goose Up
-- front_upstreams says where the processes of an app listen that its front
-- passes requests on to. An address on loopback is reached by the planes of
-- the same machine only; machine is then that machine, else ''.
create table front_upstreams (
  site text not null,
  id text not null,
  machine text not null,
  address text not null,
  since bigint not null,
  seen bigint not null,
  primary key (site, id)
);

-- front_sessions holds who is signed in to an app through its front, with the
-- tokens that the front got for them, sealed. key is a keyed hash of what the
-- browser has. refreshing is until when somebody is renewing the tokens.
create table front_sessions (
  key text primary key,
  site text not null,
  client text not null,
  person text not null,
  version bigint not null,
  sealed bytea not null,
  created bigint not null,
  used bigint not null,
  expires bigint not null,
  gone bigint not null,
  refreshing bigint not null
);
create index front_sessions_gone on front_sessions (gone);
create index front_sessions_site on front_sessions (site, person, created);

-- +goose Down
drop table front_sessions;
drop table front_upstreams;
