#!/bin/bash
# Starts MariaDB; on an empty data directory initialises it first. Understands what users of the well-known images set (MARIADB_… or
# MYSQL_…, each also as NAME_FILE):
#   ROOT_PASSWORD, ROOT_PASSWORD_HASH, ALLOW_EMPTY_ROOT_PASSWORD, RANDOM_ROOT_PASSWORD, ROOT_HOST, DATABASE, USER, PASSWORD, PASSWORD_HASH,
#   REPLICATION_USER, REPLICATION_PASSWORD, MASTER_HOST, MASTER_PORT, INITDB_SKIP_TZINFO, AUTO_UPGRADE,
# and scripts in /docker-entrypoint-initdb.d.
set -eo pipefail
shopt -s nullglob

say() { echo "$(date --rfc-3339=seconds) [entrypoint] $*" >&2; }
fail() { say "ERROR: $*"; exit 1; }

# setting NAME [DEFAULT]: MARIADB_NAME becomes what MARIADB_NAME, MYSQL_NAME, or the file that either's _FILE names says; else the default.
setting() {
	local name value found=''
	for name in "MARIADB_$1" "MYSQL_$1"; do
		local file="${name}_FILE"
		[ -z "${!name-}" ] || [ -z "${!file-}" ] || fail "both $name and $file are set; set one of them"
		if [ -n "${!name-}" ]; then
			value=${!name}
		elif [ -n "${!file-}" ]; then
			[ -r "${!file}" ] || fail "$file names ${!file}, which cannot be read"
			value=$(<"${!file}")
		else
			continue
		fi
		[ -n "$found" ] || printf -v "MARIADB_$1" '%s' "$value"
		found=yes
		unset "$file"
	done
	[ -n "$found" ] || printf -v "MARIADB_$1" '%s' "${2-}"
	local variable="MARIADB_$1"
	export "${variable?}"
}

# configured NAME ARGS…: what the server would use for an option.
configured() {
	local name=$1
	shift
	"$@" --verbose --help 2>/dev/null | awk -v name="$name" '$1 == name && /^[^ \t]/ { sub(/^[^ \t]+[ \t]+/, ""); print; exit }'
}

prepare_directories() {
	mkdir -p "$datadir" "${socket%/*}"
	if [ "$(id -u)" = 0 ]; then
		find "$datadir" \! -user mysql -exec chown mysql: '{}' +
		find "${socket%/*}" -maxdepth 0 \! -user mysql -exec chown mysql: '{}' +
	fi
}

read_settings() {
	local name
	for name in ROOT_PASSWORD ROOT_PASSWORD_HASH ALLOW_EMPTY_ROOT_PASSWORD RANDOM_ROOT_PASSWORD DATABASE USER PASSWORD PASSWORD_HASH REPLICATION_USER REPLICATION_PASSWORD MASTER_HOST INITDB_SKIP_TZINFO; do
		setting "$name"
	done
	setting ROOT_HOST %
	setting MASTER_PORT 3306
	# The other image's spelling.
	[ -n "$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ] || MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=${MARIADB_ALLOW_EMPTY_PASSWORD-${MYSQL_ALLOW_EMPTY_PASSWORD-}}
	if [ -z "$MARIADB_ROOT_PASSWORD$MARIADB_ROOT_PASSWORD_HASH$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD$MARIADB_RANDOM_ROOT_PASSWORD" ]; then
		fail "the data directory is empty and no root password is chosen.
	Set one of MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_HASH, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD"
	fi
	if [ -n "$MARIADB_RANDOM_ROOT_PASSWORD" ]; then
		MARIADB_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64)
		say "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
	fi
	[ "$MARIADB_USER" != root ] || fail 'MARIADB_USER="root": the root user always exists; choose another name, or leave it out'
	[ -z "$MARIADB_USER" ] || [ -n "$MARIADB_PASSWORD$MARIADB_PASSWORD_HASH" ] || fail "MARIADB_USER needs MARIADB_PASSWORD"
	[ -z "$MARIADB_REPLICATION_USER" ] || [ -n "$MARIADB_REPLICATION_PASSWORD" ] || fail "MARIADB_REPLICATION_USER needs MARIADB_REPLICATION_PASSWORD"
}

# The first start happens without TCP, so that nobody connects to a half-made database.
start_alone() {
	say "starting the server without TCP"
	"$@" --skip-networking --default-time-zone=SYSTEM --socket="$socket" --wsrep_on=OFF --skip-slave-start --loose-innodb_buffer_pool_load_at_startup=0 --skip-ssl &
	alone=$!
	local try
	for try in $(seq 300); do
		if sql --database=mysql <<<'SELECT 1' >/dev/null 2>&1; then return; fi
		kill -0 "$alone" 2>/dev/null || fail "the server ended; its words are above"
		sleep 0.1
	done
	fail "the server does not answer"
}

stop_alone() {
	kill "$alone"
	wait "$alone" || fail "the server did not end well"
}

sql() {
	# The user's own MYSQL_PWD is for later.
	MYSQL_PWD=${root_ready:+$MARIADB_ROOT_PASSWORD} mariadb --protocol=socket --user=root --host=localhost --socket="$socket" "$@"
}

quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\'\'}"; }
identified() { if [ -n "$2" ]; then printf 'IDENTIFIED BY PASSWORD %s' "$(quoted "$2")"; else printf 'IDENTIFIED BY %s' "$(quoted "$1")"; fi; }

make_accounts() {
	local root check
	root=$(identified "$MARIADB_ROOT_PASSWORD" "$MARIADB_ROOT_PASSWORD_HASH")
	check=$(head -c 24 /dev/urandom | base64)
	{
		echo "SET @@SESSION.SQL_LOG_BIN=0; SET @@SESSION.SQL_MODE=REPLACE(@@SESSION.SQL_MODE, 'NO_BACKSLASH_ESCAPES', '');"
		# What the installation made beside root@localhost has no password.
		echo "DROP USER IF EXISTS root@'127.0.0.1', root@'::1', ''@localhost, root@$(quoted "$HOSTNAME"), ''@$(quoted "$HOSTNAME");"
		[ "$MARIADB_ROOT_HOST" = localhost ] || echo "CREATE USER root@$(quoted "$MARIADB_ROOT_HOST") $root; GRANT ALL ON *.* TO root@$(quoted "$MARIADB_ROOT_HOST") WITH GRANT OPTION; GRANT PROXY ON ''@'%' TO root@$(quoted "$MARIADB_ROOT_HOST") WITH GRANT OPTION;"
		local host
		for host in 127.0.0.1 ::1 localhost; do
			echo "CREATE USER healthcheck@'$host' $(identified "$check" ''); GRANT USAGE, REPLICA MONITOR ON *.* TO healthcheck@'$host';"
		done
		if [ -n "$MARIADB_MASTER_HOST" ]; then
			echo "CHANGE MASTER TO MASTER_HOST=$(quoted "$MARIADB_MASTER_HOST"), MASTER_PORT=$MARIADB_MASTER_PORT, MASTER_USER=$(quoted "$MARIADB_REPLICATION_USER"), MASTER_PASSWORD=$(quoted "$MARIADB_REPLICATION_PASSWORD"), MASTER_CONNECT_RETRY=10;"
		else
			echo "SET @@SESSION.SQL_LOG_BIN=1;"
			[ -z "$MARIADB_REPLICATION_USER" ] || echo "CREATE USER $(quoted "$MARIADB_REPLICATION_USER")@'%' $(identified "$MARIADB_REPLICATION_PASSWORD" ''); GRANT REPLICATION REPLICA ON *.* TO $(quoted "$MARIADB_REPLICATION_USER")@'%';"
			[ -z "$MARIADB_DATABASE" ] || echo "CREATE DATABASE IF NOT EXISTS \`$MARIADB_DATABASE\`;"
			if [ -n "$MARIADB_USER" ]; then
				echo "CREATE USER $(quoted "$MARIADB_USER")@'%' $(identified "$MARIADB_PASSWORD" "$MARIADB_PASSWORD_HASH");"
				[ -z "$MARIADB_DATABASE" ] || echo "GRANT ALL ON \`${MARIADB_DATABASE//_/\\_}\`.* TO $(quoted "$MARIADB_USER")@'%';"
			fi
			echo "SET @@SESSION.SQL_LOG_BIN=0;"
		fi
		# Last, because from here on this connection's own credentials have changed.
		echo "SET PASSWORD FOR root@localhost = $(if [ -n "$MARIADB_ROOT_PASSWORD_HASH" ]; then quoted "$MARIADB_ROOT_PASSWORD_HASH"; else printf 'PASSWORD(%s)' "$(quoted "$MARIADB_ROOT_PASSWORD")"; fi);"
	} | sql --database=mysql --binary-mode
	(umask 0077; printf '[mariadb-client]\nport=%s\nsocket=%s\nuser=healthcheck\npassword=%s\nprotocol=tcp\n' "${port:-3306}" "$socket" "$check" >"$datadir/.my-healthcheck.cnf")
	[ -z "$MARIADB_ROOT_PASSWORD" ] || root_ready=yes
}

run_scripts() {
	local file
	for file; do
		case "$file" in
		*.sh)
			if [ -x "$file" ]; then say "running $file"; "$file"; else say "sourcing $file"; . "$file"; fi ;;
		*.sql) say "running $file"; docker_process_sql <"$file" ;;
		*.sql.gz) say "running $file"; gunzip -c "$file" | docker_process_sql ;;
		*.sql.xz) say "running $file"; xzcat "$file" | docker_process_sql ;;
		*.sql.zst) say "running $file"; zstd -dc "$file" | docker_process_sql ;;
		*) say "ignoring $file" ;;
		esac
	done
}

# A name that sourced scripts of others call.
docker_process_sql() { sql ${MARIADB_DATABASE:+--database="$MARIADB_DATABASE"} --binary-mode "$@"; }

initialise() {
	say "initialising $datadir"
	mariadb-install-db --datadir="$datadir" --rpm --auth-root-authentication-method=normal --skip-test-db --old-mode=UTF8_IS_UTF8MB3 "${@:2}" --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin --expire-logs-days=0 --loose-innodb_buffer_pool_load_at_startup=0 --loose-innodb_buffer_pool_dump_at_shutdown=0 >/dev/null
	start_alone "$@"
	if [ -z "$MARIADB_INITDB_SKIP_TZINFO" ]; then
		mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo 2>/dev/null | sql --database=mysql
	fi
	make_accounts
	run_scripts /docker-entrypoint-initdb.d/*
	stop_alone
	say "MariaDB init process done. Ready for start up."
}

upgrade() {
	setting AUTO_UPGRADE
	[ -n "$MARIADB_AUTO_UPGRADE" ] || return 0
	setting ROOT_PASSWORD
	root_ready=${MARIADB_ROOT_PASSWORD:+yes}
	start_alone "$@"
	MYSQL_PWD=${root_ready:+$MARIADB_ROOT_PASSWORD} mariadb-upgrade --protocol=socket --user=root --socket="$socket" || say "mariadb-upgrade failed; starting all the same"
	stop_alone
}

main() {
	if [ "${1:0:1}" = - ]; then set -- mariadbd "$@"; fi
	local arg
	for arg; do
		case "$arg" in -\? | --help | --print-defaults | -V | --version) exec "$@" ;; esac
	done
	if [ "${1-}" = mariadbd ] || [ "${1-}" = mysqld ]; then
		datadir=$(configured datadir "$@")
		socket=$(configured socket "$@")
		port=$(configured port "$@")
		[ -n "$datadir" ] || { "$@" --verbose --help >/dev/null; fail "the server does not understand its configuration"; }
		datadir=${datadir%/}
		prepare_directories
		if [ "$(id -u)" = 0 ]; then
			exec setpriv --reuid mysql --regid mysql --init-groups "${BASH_SOURCE[0]}" "$@"
		fi
		if [ ! -d "$datadir/mysql" ]; then
			read_settings
			initialise "$@"
		else
			upgrade "$@"
		fi
	fi
	exec "$@"
}

main "$@"
