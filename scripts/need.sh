#!/usr/bin/env bash
# need.sh THING…: installs what a make target needs (Debian, as root), or ends
# with one sentence that names the package. Things: postgres psql curl az node
# python race chromium mariadb redis freetds haproxy sysbench.
set -euo pipefail

present() {
  case $1 in
    postgres) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ;;
    psql | curl | az) command -v "$1" >/dev/null ;;
    node) command -v node >/dev/null && command -v npm >/dev/null ;;
    python) /usr/bin/python3 -c 'import azure.identity, azure.keyvault.secrets, msal, psycopg2, pymysql, redis' 2>/dev/null ;;
    chromium) command -v chromium >/dev/null && command -v certutil >/dev/null ;; # certutil: its trust in a plane
    mariadb) { command -v mariadbd || [ -x /usr/sbin/mariadbd ]; } >/dev/null && command -v mariadb >/dev/null ;;
    redis) command -v redis-server >/dev/null && command -v redis-cli >/dev/null ;;
    sysbench) command -v sysbench >/dev/null ;;
    freetds) command -v tsql >/dev/null ;;
    haproxy) command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] ;;
    race) command -v gcc >/dev/null && [ -e /usr/include/stdlib.h ] ;;
  esac
}

packages() {
  case $1 in
    postgres) echo postgresql ;;
    psql) echo postgresql-client ;;
    curl) echo curl ;;
    az) echo azure-cli ;;
    node) echo nodejs npm ;;
    python) echo python3-azure python3-msal python3-psycopg2 python3-pymysql python3-redis ;;
    mariadb) echo mariadb-server mariadb-client ;;
    redis) echo redis-server redis-tools ;;
    freetds) echo freetds-bin ;;
    haproxy) echo haproxy ;;
    sysbench) echo sysbench ;;
    chromium) echo chromium libnss3-tools fonts-liberation ;;
    race) echo gcc libc6-dev ;;
  esac
}

install=()
for thing in "$@"; do
  if ! present "$thing"; then
    read -ra more <<<"$(packages "$thing")"
    install+=("${more[@]}")
  fi
done

if [ ${#install[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing: install ${install[*]} (Debian's names) and try again." >&2
    exit 1
  fi
  echo "Installing ${install[*]}"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # 1: no server is started by its package
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${install[@]}" >/dev/null
fi

for thing in "$@"; do
  if ! present "$thing"; then
    echo "Missing still: $(packages "$thing") did not bring what is needed for $thing." >&2
    exit 1
  fi
  if [ "$thing" = node ] && [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    echo "Node.js $(node --version) is too old for Azure's clients: install Node.js 20 or newer (Debian 12's nodejs is 18)." >&2
    exit 1
  fi
done
