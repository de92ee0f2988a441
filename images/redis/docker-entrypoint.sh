#!/bin/sh
# Runs redis-server (or what is asked) as user redis. `-…` and `*.conf` are redis-server's arguments.
set -e
case "${1-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "${1-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find . \! -user redis -exec chown redis '{}' +
	exec setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
# What the server makes is for its user alone, unless the user chose otherwise.
if [ "$(umask)" = 0022 ]; then umask 0077; fi
exec "$@"
