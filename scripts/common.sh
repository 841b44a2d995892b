# What the scripts that show a plane share: temporary directories, a real
# PostgreSQL, and an end that leaves nothing behind. Sourced, not run.

work=$(mktemp -d)
chmod 711 "$work"
export HAWSER_DATA=$work/plane PATH=$PWD/bin:$PATH
say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
show() { printf '$ %s\n' "$*"; "$@"; }
jobs=() # other processes to end
as_root=$([ "$(id -u)" != 0 ] || echo --user=root) # MariaDB wants to be told

cleanup() {
  status=$?
  for job in "${jobs[@]}"; do kill "$job" 2>/dev/null && wait "$job" 2>/dev/null || true; done
  [ -z "${plane:-}" ] || { kill "$plane" 2>/dev/null && wait "$plane" 2>/dev/null; } || true
  # The job is a shell that waits for the server: the server's own id is in its file.
  [ -z "${postgres:-}" ] || { kill -INT "$(head -1 "$work/pg/data/postmaster.pid")" && wait "$postgres"; } 2>/dev/null || true
  [ "$status" = 0 ] || { echo "It failed; what was logged:" >&2; tail -n 20 "$work"/*.log >&2 || true; }
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

secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; } # 32 random characters

start_postgres() { # sets postgres, pg_port and owner_password
  local pg
  pg=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1 || dirname "$(command -v initdb)")
  mkdir "$work/pg" && owner_password=$(secret)
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
}

start_mariadb() { # sets mariadb_port; its owner has owner_password
  local daemon
  daemon=$(command -v mariadbd || echo /usr/sbin/mariadbd)
  mkdir -p "$work/mariadb/tmp"
  mariadb-install-db --no-defaults --datadir="$work/mariadb/data" --auth-root-authentication-method=normal --skip-test-db $as_root >/dev/null
  cat >"$work/mariadb/init.sql" <<SQL
CREATE DATABASE IF NOT EXISTS shop;
DELETE FROM mysql.global_priv WHERE user = '';
FLUSH PRIVILEGES;
CREATE USER owner@'%' IDENTIFIED BY '$owner_password';
GRANT ALL ON *.* TO owner@'%' WITH GRANT OPTION;
SQL
  mariadb_port=$(free_port)
  "$daemon" --no-defaults --datadir="$work/mariadb/data" --tmpdir="$work/mariadb/tmp" --socket="$work/mariadb/sock" --bind-address=127.0.0.1 \
    --port="$mariadb_port" --init-file="$work/mariadb/init.sql" --innodb-use-native-aio=0 --skip-log-bin $as_root >"$work/mariadb.log" 2>&1 &
  jobs+=($!)
  wait_for "$work/mariadb.log" 'ready for connections' $!
  rm "$work/mariadb/init.sql"
  echo "MariaDB $("$daemon" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -1) on 127.0.0.1:$mariadb_port"
}

start_redis() { # sets redis_port; its default user has owner_password
  redis_port=$(free_port)
  printf 'port %s\nbind 127.0.0.1\nrequirepass %s\nsave ""\ndir %s\n' "$redis_port" "$owner_password" "$work" >"$work/redis.conf"
  redis-server "$work/redis.conf" >"$work/redis.log" 2>&1 &
  jobs+=($!)
  wait_for "$work/redis.log" 'Ready to accept connections' $!
  rm "$work/redis.conf"
  echo "Redis $(redis-server --version | grep -oE 'v=[0-9.]+' | cut -c3-) on 127.0.0.1:$redis_port"
}

start_plane() { # sets plane
  echo '$ hawser up'
  hawser up --listen 127.0.0.1:0 --pg 127.0.0.1:0 --mysql 127.0.0.1:0 --tds 127.0.0.1:0 --redis 127.0.0.1:0 --hosts off --imds off >"$work/plane.out" 2>"$work/plane.log" &
  plane=$!
  wait_for "$work/plane.out" '^ready ' "$plane"
  cat "$work/plane.out"
}
