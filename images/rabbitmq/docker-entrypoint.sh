#!/bin/bash
# Starts RabbitMQ (or any command). The server itself reads RABBITMQ_DEFAULT_USER, _PASS, _VHOST, RABBITMQ_NODENAME, RABBITMQ_USE_LONGNAME;
# RABBITMQ_ERLANG_COOKIE (or _FILE) becomes the cookie file.
set -euo pipefail

case "${1-}" in
rabbitmq* )
	if [ "$1" = rabbitmq-server ] && [ "$(id -u)" = 0 ]; then
		find /var/lib/rabbitmq \! -user rabbitmq -exec chown rabbitmq '{}' + || true
		exec setpriv --reuid rabbitmq --regid rabbitmq --init-groups "${BASH_SOURCE[0]}" "$@"
	fi
	;;
esac

for name in RABBITMQ_ERLANG_COOKIE RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS; do
	file_name=${name}_FILE
	if [ -n "${!file_name-}" ]; then
		[ -z "${!name-}" ] || { echo "rabbitmq: both $name and $file_name are set; set one of them" >&2; exit 1; }
		printf -v "$name" '%s' "$(<"${!file_name}")"
		export "${name?}"
	fi
done

if [ -n "${RABBITMQ_ERLANG_COOKIE-}" ]; then
	cookie=/var/lib/rabbitmq/.erlang.cookie
	if [ -e "$cookie" ]; then
		if [ "$(<"$cookie")" != "$RABBITMQ_ERLANG_COOKIE" ]; then
			echo "rabbitmq: $cookie does not match RABBITMQ_ERLANG_COOKIE; the file is used" >&2
		fi
	else
		(umask 077 && printf '%s' "$RABBITMQ_ERLANG_COOKIE" >"$cookie")
	fi
	chmod 600 "$cookie" 2>/dev/null || true
fi

exec "$@"
