#!/bin/sh
# Before nginx starts: fill in /etc/nginx/templates/*.template from the environment, run /docker-entrypoint.d/*.sh in order.
set -e

if [ "${1-}" = nginx ] || [ "${1-}" = nginx-debug ]; then
	for template in /etc/nginx/templates/*.template; do
		[ -f "$template" ] || continue
		# Only variables that exist, so that nginx's own $variables stay.
		defined=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')
		envsubst "$defined" <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
	done
	for script in /docker-entrypoint.d/*; do
		case "$script" in
		*.envsh) [ -x "$script" ] && . "$script" ;;
		*.sh) if [ -x "$script" ]; then "$script"; fi ;;
		esac
	done
fi
exec "$@"
