#!/bin/bash
# Starts mongod (or any command). Understands what users of the well-known image set:
#   MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD (each also as NAME_FILE) make an administrator on an empty data directory
#   and turn authentication on; MONGO_INITDB_DATABASE and scripts (*.sh, *.js) in /docker-entrypoint-initdb.d.
set -Eeuo pipefail

fail() { echo "mongo: $*" >&2; exit 1; }

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

# option_value NAME ARG...: the value of --NAME, or of -f for config.
option_value() {
	local name=$1; shift
	while [ $# -gt 0 ]; do
		case "$1" in
		"--$name="*) echo "${1#*=}"; return ;;
		"--$name") echo "${2-}"; return ;;
		-f) if [ "$name" = config ]; then echo "${2-}"; return; fi ;;
		esac
		shift
	done
	return 1
}

has_option() {
	local name=$1 arg; shift
	for arg; do
		case "$arg" in "--$name" | "--$name="*) return 0 ;; esac
	done
	return 1
}

# read_config FILE PATH: a setting of a YAML configuration file, empty if it is not there. Settings may be nested or dotted.
read_config() {
	node -e '
		const yaml = require("/usr/local/lib/mongosh/yaml.js"), fs = require("fs");
		let at = yaml.load(fs.readFileSync(process.argv[1], "utf8")) || {};
		const path = process.argv[2];
		let value = at[path];
		if (value === undefined) { value = at; for (const part of path.split(".")) value = value === undefined || value === null ? undefined : value[part]; }
		if (value !== undefined && value !== null) console.log(typeof value === "object" ? JSON.stringify(value) : String(value));
	' "$1" "$2"
}

# first_config FILE TARGET: the file without what the first start must not have: other members, clients, authentication.
first_config() {
	node -e '
		const yaml = require("/usr/local/lib/mongosh/yaml.js"), fs = require("fs");
		const config = yaml.load(fs.readFileSync(process.argv[1], "utf8")) || {};
		const gone = /^(replication|sharding|processManagement|systemLog|net\.(bindIp|bindIpAll|port|tls|ssl)|security\.(authorization|keyFile|clusterAuthMode))(\.|$)/;
		const strip = (object, path) => { for (const key of Object.keys(object)) {
			const full = path ? path + "." + key : key;
			if (gone.test(full)) delete object[key];
			else if (object[key] && typeof object[key] === "object" && !Array.isArray(object[key])) strip(object[key], full);
		} };
		strip(config, "");
		fs.writeFileSync(process.argv[2], JSON.stringify(config), { mode: 0o644 });
	' "$1" "$2"
}

# The first start listens on loopback only, alone, and lets this script in: nobody else meets a half-made database.
first_start() {
	local first=(mongod) config user_js
	shift
	while [ $# -gt 0 ]; do
		case "$1" in
		--auth | --bind_ip_all | --shardsvr | --configsvr | --fork | --ipv6) ;;
		--keyFile | --clusterAuthMode | --replSet | --bind_ip | --port | --logpath | --pidfilepath | --tlsMode | --sslMode) shift ;;
		--keyFile=* | --clusterAuthMode=* | --replSet=* | --bind_ip=* | --port=* | --logpath=* | --pidfilepath=* | --tls* | --ssl*) ;;
		--config | -f) config=$2; shift ;;
		--config=*) config=${1#*=} ;;
		*) first+=("$1") ;;
		esac
		shift
	done
	if [ -n "${config-}" ]; then
		first_config "$config" /tmp/first-start.json
		first+=(--config /tmp/first-start.json)
	fi
	first+=(--bind_ip 127.0.0.1 --port 27017)
	"${first[@]}" --logpath /proc/1/fd/1 --logappend --fork --pidfilepath /tmp/first-start.pid >/dev/null || {
		# Where /proc/1 is not ours (another user, a shared PID namespace), to a file.
		"${first[@]}" --logpath /tmp/first-start.log --fork --pidfilepath /tmp/first-start.pid >/dev/null || { cat /tmp/first-start.log >&2; fail "mongod did not start"; }
	}
	local shell=(mongosh --quiet --norc --host 127.0.0.1 --port 27017)
	if [ -n "$MONGO_INITDB_ROOT_USERNAME" ]; then
		user_js="db.getSiblingDB('admin').createUser({ user: process.env.MONGO_INITDB_ROOT_USERNAME, pwd: process.env.MONGO_INITDB_ROOT_PASSWORD, roles: [{ role: 'root', db: 'admin' }] })"
		"${shell[@]}" admin --eval "$user_js"
	fi
	export MONGO_INITDB_DATABASE=${MONGO_INITDB_DATABASE:-test}
	local file
	for file in /docker-entrypoint-initdb.d/*; do
		case "$file" in
		*.sh)
			if [ -x "$file" ]; then echo "running $file"; "$file"; else echo "sourcing $file"; . "$file"; fi ;;
		*.js) echo "running $file"; "${shell[@]}" "$MONGO_INITDB_DATABASE" "$file" ;;
		*) echo "ignoring $file" ;;
		esac
	done
	local pid
	pid=$(</tmp/first-start.pid)
	kill -TERM "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	rm -f /tmp/first-start.json /tmp/first-start.pid /tmp/first-start.log
	echo "MongoDB init process complete; ready for start up."
}

prepare_directories() {
	local path dir=$1
	for path in /data/configdb "$dir"; do
		[ ! -d "$path" ] || find "$path" \! -user mongodb -exec chown mongodb '{}' + || true
	done
	# mongod logs to these when it is told to.
	chown mongodb /proc/self/fd/1 /proc/self/fd/2 2>/dev/null || true
}

main() {
	if [ "${1:0:1}" = - ]; then set -- mongod "$@"; fi
	local config="" data=""
	case "${1-}" in
	mongod | mongos)
		if ! command -v "$1" >/dev/null; then
			fail "$1 is not in this image: the package that MongoDB's server was taken from has mongod only"
		fi
		config=$(option_value config "$@") || config=""
		data=$(option_value dbpath "$@") || data=""
		if [ -z "$data" ] && [ -n "$config" ]; then data=$(read_config "$config" storage.dbPath); fi
		if [ -z "$data" ]; then
			data=/data/db
			if has_option configsvr "$@"; then data=/data/configdb; fi
		fi
		if [ "$(id -u)" = 0 ]; then
			prepare_directories "$data"
			exec setpriv --reuid mongodb --regid mongodb --init-groups "${BASH_SOURCE[0]}" "$@"
		fi
		;;
	esac
	if [ "${1-}" = mongod ]; then
		local arg
		for arg; do
			case "$arg" in --help | -h | --version) exec "$@" ;; esac
		done
		from_file MONGO_INITDB_ROOT_USERNAME
		from_file MONGO_INITDB_ROOT_PASSWORD
		if [ -n "$MONGO_INITDB_ROOT_USERNAME$MONGO_INITDB_ROOT_PASSWORD" ] && { [ -z "$MONGO_INITDB_ROOT_USERNAME" ] || [ -z "$MONGO_INITDB_ROOT_PASSWORD" ]; }; then
			fail "MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD go together; one of them is empty"
		fi
		local scripts=(/docker-entrypoint-initdb.d/*)
		if [ ! -e "$data/WiredTiger" ] && [ ! -e "$data/storage.bson" ] && { [ -n "$MONGO_INITDB_ROOT_USERNAME" ] || [ ${#scripts[@]} -gt 0 ]; }; then
			first_start "$@"
		fi
		if [ -n "$MONGO_INITDB_ROOT_USERNAME" ] && ! has_option auth "$@"; then set -- "$@" --auth; fi
		unset MONGO_INITDB_ROOT_USERNAME MONGO_INITDB_ROOT_PASSWORD MONGO_INITDB_DATABASE
	fi
	case "${1-}" in
	mongod | mongos)
		# Reachable from other pods unless somebody said otherwise.
		if ! has_option bind_ip "$@" && ! has_option bind_ip_all "$@" && { [ -z "$config" ] || [ -z "$(read_config "$config" net.bindIp)$(read_config "$config" net.bindIpAll)" ]; }; then
			set -- "$@" --bind_ip_all
		fi
		;;
	esac
	exec "$@"
}

shopt -s nullglob
main "$@"
