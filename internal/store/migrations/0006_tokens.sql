-- +goose Up
-- auth_codes holds authorization codes. key is the code's keyed hash. family is
-- what refresh tokens of the code belong to, so that they end when the code
-- comes a second time; used is when it came first, 0 before.
create table auth_codes (
  key text primary key,
  family text not null,
  body text not null,
  expires bigint not null,
  used bigint not null
);
create index auth_codes_expires on auth_codes (expires);

-- token_families holds one row for all refresh tokens that descend from one
-- sign-in. Nothing of a token is here: n counts them, and the newest is the only
-- one that holds. recent says which came when, for the grace that parallel
-- calls of one client need. bound families end with their session.
create table token_families (
  id text primary key,
  user_id text not null,
  client text not null,
  session text not null,
  bound boolean not null,
  n bigint not null,
  recent text not null,
  body text not null,
  created bigint not null,
  expires bigint not null,
  revoked bigint not null
);
create index token_families_user on token_families (user_id);
create index token_families_session on token_families (session);
create index token_families_expires on token_families (expires);

-- device_codes holds sign-ins of devices that wait for a person. key and
-- user_key are keyed hashes of the device's code and of the one that is typed.
create table device_codes (
  key text primary key,
  user_key text not null unique,
  status text not null,
  body text not null,
  expires bigint not null
);
create index device_codes_expires on device_codes (expires);

-- session_clients says which clients were signed in to with a session, so that
-- they are told when it ends.
create table session_clients (
  session text not null,
  client text not null,
  expires bigint not null,
  primary key (session, client)
);
create index session_clients_expires on session_clients (expires);

-- +goose Down
drop table session_clients;
drop table device_codes;
drop table token_families;
drop table auth_codes;
