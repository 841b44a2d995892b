#!/usr/bin/env bash
# make demo: a plane, a real PostgreSQL, and apps that hold no secret, once
# through, in temporary directories. Nothing of the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
chmod 711 "$work"
export HAWSER_DATA=$work/plane PATH=$PWD/bin:$PATH
say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
show() { printf '$ %s\n' "$*"; "$@"; }

cleanup() {
  status=$?
  [ -z "${plane:-}" ] || { kill "$plane" 2>/dev/null && wait "$plane" 2>/dev/null; } || true
  # The job is a shell that waits for the server: the server's own id is in its file.
  [ -z "${postgres:-}" ] || { kill -INT "$(head -1 "$work/pg/data/postmaster.pid")" && wait "$postgres"; } 2>/dev/null || true
  [ "$status" = 0 ] || { echo "The demo failed; the plane wrote:" >&2; tail -20 "$work/plane.log" >&2 || true; }
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

free_port() { # a port that nobody listens on
  local port
  while port=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

wait_for() { # FILE PATTERN PID: until the line is there
  for _ in $(seq 300); do
    if grep -q "$2" "$1" 2>/dev/null; then return; fi
    kill -0 "$3" 2>/dev/null || break
    sleep 0.1
  done
  echo "$1 never said '$2':" >&2; cat "$1" >&2; return 1
}

say "1. A real PostgreSQL with an owner's password"
pg=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1 || dirname "$(command -v initdb)")
mkdir "$work/pg" && owner_password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf '%s\n' "$owner_password" >"$work/pg/pw"
as_server() { exec "$@"; } # in a subshell, so that $! is the server's
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
  chown -R postgres "$work/pg"
  as_server() { cd / && exec setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
fi
(as_server "$pg/initdb" -D "$work/pg/data" -U owner --pwfile "$work/pg/pw" -A scram-sha-256 -E UTF8 --locale C >/dev/null)
rm "$work/pg/pw"
pg_port=$(free_port)
(as_server "$pg/postgres" -D "$work/pg/data" -p "$pg_port" -k "$work/pg" -c listen_addresses=127.0.0.1 >"$work/pg.log" 2>&1) &
postgres=$!
wait_for "$work/pg.log" 'ready to accept connections' "$postgres"
echo "PostgreSQL $("$pg/postgres" --version | grep -o '[0-9.]*' | head -1) on 127.0.0.1:$pg_port"

say "2. The plane: token authority, vaults, roles, audit and the PostgreSQL gateway in one process"
echo '$ hawser up'
hawser up --listen 127.0.0.1:0 --pg 127.0.0.1:0 --hosts off --imds off >"$work/plane.out" 2>"$work/plane.log" &
plane=$!
wait_for "$work/plane.out" '^ready ' "$plane"
cat "$work/plane.out"

say "3. A vault with a secret, and the database server"
show hawser vault create kv1
api_key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo '$ hawser secret set kv1 api-key    (32 random characters, from standard input)'
printf %s "$api_key" | hawser secret set kv1 api-key
show hawser secret set kv1 greeting "hello from the vault"
echo '$ hawser attach pg1 postgres://owner@127.0.0.1/postgres --password-stdin'
hawser attach pg1 "postgres://owner@127.0.0.1:$pg_port/postgres?sslmode=disable" --password-stdin <<<"$owner_password"
vault_url=$(hawser vault show kv1 --output json | sed -n 's/.*"vaultUri": *"\([^"]*\)".*/\1/p')

# app NAME CLIENT PROGRAM…: makes an app, connects it and runs it.
app() {
  local name=$1 client=$2
  shift 2
  show hawser app create "$name"
  show hawser role assign "Key Vault Secrets User" --to "$name" --scope kv1
  show hawser app set "$name" "KEY_VAULT_URL=$vault_url" SECRET_NAME=api-key \
    'GREETING=@Microsoft.KeyVault(VaultName=kv1;SecretName=greeting)'
  show hawser connect "$name" pg1 --database postgres --client "$client" --name "${name}_pg" --access read
  echo "\$ hawser run $name -- $*"
  hawser run "$name" -- "$@"
}

say "4. An app written only with Microsoft's and PostgreSQL's client libraries (Go)"
(cd examples/go && CGO_ENABLED=0 go build -o "$work/tutorial" .)
app go-app go "$work/tutorial"

say "5. The same in Node.js"
if ! command -v npm >/dev/null || [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
  echo "left out: it needs Node.js 20 or newer, and npm"
elif ! [ -d examples/node/node_modules ] && ! (cd examples/node && npm ci --no-audit --no-fund --loglevel=error); then
  echo "left out: npm could not install its packages"
else
  app node-app nodejs node examples/node/app.js
fi

say "6. The same in Python"
if /usr/bin/python3 -c 'import azure.identity, azure.keyvault.secrets, msal, psycopg2' 2>/dev/null; then
  app python-app python /usr/bin/python3 examples/python/app.py
else
  echo "left out: it needs Debian's python3-azure, python3-msal and python3-psycopg2"
fi

say "7. What the Go app's environment held"
environment=$(hawser run go-app -- env | sort)
grep -E '^(AZURE_|IDENTITY_ENDPOINT|KEY_VAULT|SECRET_NAME|GREETING|WEBSITE_SITE_NAME)' <<<"$environment"
admin_secret=$(hawser env --json --as admin | sed -n 's/.*"clientSecret": *"\([^"]*\)".*/\1/p')
for secret in "$owner_password" "$api_key" "$admin_secret"; do
  if [ -z "$secret" ] || grep -qF -- "$secret" <<<"$environment"; then
    echo "A secret was in the app's environment." >&2
    exit 1
  fi
done
echo "No secret is in it: not the database's password, not the vault's api-key, not the plane's own credentials."

say "8. What the audit log says of it"
hawser audit --last 6
show hawser audit --verify
