#!/usr/bin/env bash
# make behalf: two people, two apps behind built-in authentication, Microsoft
# Graph and a real PostgreSQL, once through, in temporary directories. Who may
# see which rows, the database decides for the person who is signed in. Nothing
# of the machine is changed: the plane's names are in a hosts file of the
# script's own.
set -euo pipefail
cd "$(dirname "$0")/.."

# The names of the plane resolve in a mount namespace whose hosts file has
# them: as root or, where the kernel allows it, as anybody.
names=(login graph management web.sites api.sites pg1.postgres)
if [ -z "${BEHALF_HOSTS:-}" ] && ! getent hosts login.hawser.localhost >/dev/null; then
  BEHALF_HOSTS=$(mktemp) && export BEHALF_HOSTS
  { cat /etc/hosts; printf '127.0.0.1'; printf ' %s.hawser.localhost' "${names[@]}"; echo; } >"$BEHALF_HOSTS"
  chmod 644 "$BEHALF_HOSTS" # PostgreSQL's user reads it too
  apart=(unshare --mount)
  [ "$(id -u)" = 0 ] || apart=(unshare --user --map-current-user --keep-caps --mount)
  status=0
  "${apart[@]}" bash -c 'mount --bind "$BEHALF_HOSTS" /etc/hosts && exec setpriv --inh-caps=-all --ambient-caps=-all "$0" "$@"' "$PWD/scripts/behalf.sh" "$@" || status=$?
  rm -f "$BEHALF_HOSTS"
  if [ "$status" = 1 ] && ! "${apart[@]}" true 2>/dev/null; then
    echo "The names *.hawser.localhost do not resolve here, and a hosts file apart cannot be made: run this as root, or install libnss-myhostname." >&2
  fi
  exit "$status"
fi

. scripts/common.sh
json() { node -e 'let s=""; process.stdin.on("data", (d) => s += d).on("end", () => console.log(process.argv[1].split(".").reduce((v, k) => v[k], JSON.parse(s))))' "$1"; }

say "1. A real PostgreSQL with orders; row-level security shows everybody their own"
start_postgres
database="postgres://owner@127.0.0.1:$pg_port/postgres?sslmode=disable"
PGPASSWORD=$owner_password psql -X -q -v ON_ERROR_STOP=1 "$database" <<'SQL'
create table orders (id int primary key, item text not null, owner text not null);
insert into orders values (1, 'a rope', 'ann@hawser.localhost'), (2, 'an anchor', 'ben@hawser.localhost'),
  (3, 'a lantern', 'ann@hawser.localhost'), (4, 'a chart', 'ben@hawser.localhost'), (5, 'a bell', 'eve@hawser.localhost');
alter table orders enable row level security;
create policy own_orders on orders using (owner = current_user);
SQL
echo "5 orders: 2 of Ann's, 2 of Ben's, 1 of Eve's; policy: owner = current_user"

say "2. The plane"
start_plane
domain=hawser.localhost
port=$(grep -o 'localhost:[0-9]*' "$work/plane.out" | head -1 | cut -d: -f2)
eval "$(hawser env)" # the CA, for curl and the browser's helpers

say "3. Three people; two of them are in the group that is a role of the database"
password=$(secret)
for name in ann ben eve; do
  echo "\$ hawser user create $name --display-name ${name^} --password-stdin"
  printf %s "$password" | hawser user create "$name" --display-name "${name^}" --password-stdin
done
show hawser group create sales
show hawser group add sales ann
show hawser group add sales ben
echo '$ hawser attach pg1 postgres://owner@127.0.0.1/postgres --password-stdin'
hawser attach pg1 "$database" --password-stdin <<<"$owner_password"
show hawser principal add pg1 sales --database postgres --access read

say "4. Two apps that know their person only by built-in authentication"
(cd examples/behalf/api && CGO_ENABLED=0 go build -o "$work/api" .)
[ -d examples/behalf/web/node_modules ] || (cd examples/behalf/web && npm ci --no-audit --no-fund --loglevel=error)
hawser app create api >/dev/null
hawser app create web >/dev/null
pg_gateway=$(hawser env --json | json gateways.pg)
show hawser app set api "GRAPH_URL=https://graph.$domain:$port" \
  "DATABASE_URL=postgres://pg1.postgres.$domain:${pg_gateway##*:}/postgres?sslmode=verify-full&sslrootcert=$(hawser env --json | json caFile)"
run_app() { # NAME FLAGS -- COMMAND: an app behind built-in authentication, until the end
  local name=$1
  shift
  echo "\$ hawser run $name $*"
  hawser run "$name" "$@" >"$work/$name.out" 2>"$work/$name.log" &
  jobs+=($!)
}
client_of() { # APP: its registration, which hawser run --auth made
  local id
  for _ in $(seq 100); do
    id=$(hawser app settings "$1" --reveal --output tsv | awk '$1 == "WEBSITE_AUTH_CLIENT_ID" {print $2}')
    if [ -n "$id" ]; then echo "$id"; return; fi
    sleep 0.1
  done
  return 1
}
run_app api --auth --auth-action 401 -- "$work/api"
api=$(client_of api)
show hawser app set web "API_URL=https://api.sites.$domain:$port" "API_SCOPE=api://$api/user_impersonation"
run_app web --auth --auth-scope 'openid profile offline_access api://{clientId}/user_impersonation' -- node examples/behalf/web/app.js

client_of web >/dev/null # its registration is there

say "5. An administrator consents: web may call api, api may call Graph and the database, each for the signed-in person only"
show hawser consent web api user_impersonation
show hawser consent web web user_impersonation
show hawser consent api "Microsoft Graph" User.Read
show hawser consent api 123cd850-d9df-40bd-94d5-c9f07b7fa203 user_impersonation # Azure Database for PostgreSQL

say "6. Each signs in and opens the app"
site=https://web.sites.$domain:$port
if command -v chromium >/dev/null && command -v certutil >/dev/null; then
  [ -d conformance/browser/node_modules ] || (cd conformance/browser && npm ci --no-audit --no-fund --loglevel=error)
  see() { HOME=$work/home PASSWORD=$password node conformance/browser/see.mjs "$site" "$1"; }
  mkdir -p "$work/home/.pki/nssdb"
  certutil -d "sql:$work/home/.pki/nssdb" -N --empty-password
  certutil -d "sql:$work/home/.pki/nssdb" -A -n plane -t C,, -i "$(hawser env --json | json caFile)"
  echo "(with $(chromium --version 2>/dev/null | cut -d' ' -f1,2))"
else
  (cd conformance && CGO_ENABLED=0 go test -c -o "$work/visitor" .)
  see() { VISITOR="{\"person\":{\"userPrincipalName\":\"$1\",\"password\":\"$password\"},\"domain\":\"$domain\"}" "$work/visitor" client visit "$site"; }
  echo "(without a browser here: the plain forms, as a browser without JavaScript sends them)"
fi
for name in ann ben; do
  printf '\n%s sees:\n' "${name^}"
  see "$name@$domain" | tee "$work/$name.seen"
done
printf '\nEve, who is not in the group, sees:\n'
see "eve@$domain" | tee "$work/eve.seen"
for seen in 'ann:a rope' 'ann:a lantern' 'ben:an anchor' 'ben:a chart'; do
  grep -q "${seen#*:}" "$work/${seen%%:*}.seen" || { echo "${seen%%:*} does not see ${seen#*:}." >&2; exit 1; }
done
if grep -qE 'anchor|chart|bell' "$work/ann.seen" || grep -qE 'rope|lantern|bell' "$work/ben.seen" || grep -qE 'rope|lantern|anchor|chart|bell' "$work/eve.seen"; then
  echo "Somebody saw what is somebody else's." >&2
  exit 1
fi

say "7. What the audit log says of it"
hawser audit --last 1000 | grep -E '(allowed|refused) .*@.*login/action .*(PostgreSQL Login|not mapped)' | sed -E 's#/subscriptions/[^ ]*/providers/##' | sort -u -k3,3 || true
show hawser audit --verify
