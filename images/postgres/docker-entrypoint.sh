#!/bin/bash
# Starts PostgreSQL; on an empty data directory initialises it first. Understands what users of the well-known image set:
#   POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also as NAME_FILE), POSTGRES_INITDB_WALDIR,
#   POSTGRES_HOST_AUTH_METHOD, PGDATA, and scripts in /docker-entrypoint-initdb.d.
set -Eeo pipefail

fail() { echo "postgres: $*" >&2; exit 1; }

# from_file NAME [DEFAULT]: NAME, or the contents of the file that NAME_FILE names, or the default.
from_file() {
	local name=$1 file_name="$1_FILE" default=${2-}
	if [ -n "${!name-}" ] && [ -n "${!file_name-}" ]; then
		fail "both $name and $file_name are set; set one of them"
	fi
	if [ -n "${!file_name-}" ]; then
		[ -r "${!file_name}" ] || fail "$file_name names ${!file_name}, which cannot be read"
		printf -v "$name" '%s' "$(<"${!file_name}")"
	elif [ -z "${!name-}" ]; then
		printf -v "$name" '%s' "$default"
	fi
	export "${name?}"
	unset "$file_name"
}

prepare_directories() {
	mkdir -p "$PGDATA"
	chmod 00700 "$PGDATA" || true
	mkdir -p /var/run/postgresql && chmod 03775 /var/run/postgresql || true
	if [ "$(id -u)" = 0 ]; then
		find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
		find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
		if [ -n "${POSTGRES_INITDB_WALDIR-}" ]; then
			mkdir -p "$POSTGRES_INITDB_WALDIR"
			chown -R postgres "$POSTGRES_INITDB_WALDIR"
			chmod 700 "$POSTGRES_INITDB_WALDIR"
		fi
	fi
}

read_settings() {
	from_file POSTGRES_PASSWORD
	from_file POSTGRES_USER postgres
	from_file POSTGRES_DB "$POSTGRES_USER"
	from_file POSTGRES_INITDB_ARGS
	: "${POSTGRES_HOST_AUTH_METHOD:=}"
	if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
		fail "the data directory is empty and no superuser password is set.
  Set POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE) to a non-empty value,
  or POSTGRES_HOST_AUTH_METHOD=trust to let everybody in without one (not recommended)."
	fi
}

initialise() {
	# A user id without a passwd entry (runAsUser: any) is fine for the server but not for initdb.
	if ! getent passwd "$(id -u)" >/dev/null; then
		local wrapper
		for wrapper in /usr/lib/*/libnss_wrapper.so; do
			[ -s "$wrapper" ] || continue
			NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
			export LD_PRELOAD=$wrapper NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
			echo "postgres:x:$(id -u):$(id -g)::$PGDATA:/bin/false" >"$NSS_WRAPPER_PASSWD"
			echo "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
		done
	fi
	local wal=()
	[ -z "${POSTGRES_INITDB_WALDIR-}" ] || wal=(--waldir "$POSTGRES_INITDB_WALDIR")
	# Word splitting of POSTGRES_INITDB_ARGS is what users rely on.
	eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") "${wal[@]}" '"$POSTGRES_INITDB_ARGS"' "$@"'
	local method=$POSTGRES_HOST_AUTH_METHOD
	if [ -z "$method" ]; then
		method=$(postgres -C password_encryption "$@" 2>/dev/null || echo scram-sha-256)
	fi
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

sql() {
	PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc "$@"
}

run_scripts() {
	local file
	for file; do
		case "$file" in
		*.sh)
			if [ -x "$file" ]; then echo "running $file"; "$file"; else echo "sourcing $file"; . "$file"; fi ;;
		*.sql) echo "running $file"; sql --dbname "$POSTGRES_DB" -f "$file" ;;
		*.sql.gz) echo "running $file"; gunzip -c "$file" | sql --dbname "$POSTGRES_DB" ;;
		*.sql.xz) echo "running $file"; xzcat "$file" | sql --dbname "$POSTGRES_DB" ;;
		*.sql.zst) echo "running $file"; zstd -dc "$file" | sql --dbname "$POSTGRES_DB" ;;
		*) echo "ignoring $file" ;;
		esac
	done
}

# The first start happens without TCP, so that nobody connects to a half-made database.
first_start() {
	export PGPASSWORD=${PGPASSWORD-$POSTGRES_PASSWORD}
	local options=
	# Without arguments printf would write one that is empty, which the server refuses.
	[ $# -lt 2 ] || printf -v options '%q ' "${@:2}"
	PGUSER=${PGUSER-$POSTGRES_USER} pg_ctl -D "$PGDATA" -o "$options -c listen_addresses='' -p ${PGPORT:-5432}" -w start
	if [ "$POSTGRES_DB" != postgres ] && [ -z "$(sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only <<<"SELECT 1 FROM pg_database WHERE datname = :'db';")" ]; then
		sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
	fi
	run_scripts /docker-entrypoint-initdb.d/*
	PGUSER=${PGUSER-$POSTGRES_USER} pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD
}

main() {
	if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
	local arg
	for arg; do
		case "$arg" in -\? | --help | --describe-config | -V | --version) exec "$@" ;; esac
	done
	if [ "${1-}" = postgres ]; then
		prepare_directories
		if [ "$(id -u)" = 0 ]; then
			exec setpriv --reuid postgres --regid postgres --init-groups "${BASH_SOURCE[0]}" "$@"
		fi
		if [ ! -s "$PGDATA/PG_VERSION" ]; then
			read_settings
			initialise
			first_start "$@"
			echo "PostgreSQL init process complete; ready for start up."
		fi
	fi
	exec "$@"
}

shopt -s nullglob
main "$@"
