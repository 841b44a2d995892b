#!/usr/bin/env bash
# make demo: a plane, a real PostgreSQL, and apps that hold no secret, once
# through, in temporary directories. Nothing of the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/common.sh

say "1. A real PostgreSQL with an owner's password"
start_postgres

say "2. The plane: token authority, vaults, roles, audit and the PostgreSQL gateway in one process"
start_plane

say "3. A vault with a secret, and the database server"
show hawser vault create kv1
api_key=$(secret)
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
for hidden in "$owner_password" "$api_key" "$admin_secret"; do
  if [ -z "$hidden" ] || grep -qF -- "$hidden" <<<"$environment"; then
    echo "A secret was in the app's environment." >&2
    exit 1
  fi
done
echo "No secret is in it: not the database's password, not the vault's api-key, not the plane's own credentials."

say "8. MySQL and Redis, by the same doors: a real MariaDB and a real Redis"
start_mariadb
start_redis
echo '$ hawser attach my1 mysql://owner@127.0.0.1/shop --password-stdin'
hawser attach my1 "mysql://owner@127.0.0.1:$mariadb_port/shop" --password-stdin <<<"$owner_password" >/dev/null
echo '$ hawser attach cache1 redis://127.0.0.1 --password-stdin'
hawser attach cache1 "redis://127.0.0.1:$redis_port" --password-stdin <<<"$owner_password" >/dev/null
show hawser app create shop
show hawser connect shop my1 --database shop --client python --access write
show hawser connect shop cache1 --access write
if /usr/bin/python3 -c 'import azure.identity, pymysql' 2>/dev/null; then
  echo '$ hawser run shop -- python3 examples/mysql-python/app.py'
  hawser run shop -- /usr/bin/python3 examples/mysql-python/app.py
else
  echo "left out: it needs Debian's python3-azure and python3-pymysql"
fi

say "9. Programs that know no token: the shells of both, with no password"
echo "\$ hawser run shop --proxy -- mariadb -e 'select current_user()'"
hawser run shop --proxy -- mariadb --no-defaults -te 'select current_user()'
echo "\$ hawser run shop --proxy -- sh -c 'redis-cli -u \$REDIS_URL set greeting hello'"
hawser run shop --proxy -- sh -c 'redis-cli -u "$REDIS_URL" set greeting hello'

say "10. What the audit log says of it"
hawser audit --last 6
show hawser audit --verify
