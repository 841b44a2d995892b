-- +goose Up
-- signin_sessions holds who is signed in in which browser. browser is the
-- keyed hash of the browser's session cookie: nobody can be made of this table.
create table signin_sessions (
  id text primary key,
  browser text not null,
  user_id text not null,
  auth_time bigint not null,
  used bigint not null,
  idle bigint not null,
  ends bigint not null,
  body text not null
);
create index signin_sessions_browser on signin_sessions (browser);
create index signin_sessions_user on signin_sessions (user_id);
create index signin_sessions_ends on signin_sessions (ends);

-- signin_once remembers what may be used once, until it would not be accepted
-- anyway: tickets, one-time codes, challenges, an outside provider's states.
create table signin_once (
  key text primary key,
  until bigint not null
);
create index signin_once_until on signin_once (until);

-- signin_failures counts attempts to prove who one is. key is a keyed hash of
-- what is counted: an account and a network, a device, an account, a network.
create table signin_failures (
  key text primary key,
  n bigint not null,
  since bigint not null,
  blocked bigint not null
);
create index signin_failures_since on signin_failures (since);

-- signin_links says which user a subject of an outside provider is.
create table signin_links (
  subject text primary key,
  user_id text not null
);

-- +goose Down
drop table signin_links;
drop table signin_failures;
drop table signin_once;
drop table signin_sessions;
