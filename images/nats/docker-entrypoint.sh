#!/bin/sh
# Flags alone are the server's: `args: ["--jetstream"]` and `args: ["nats-server", "--jetstream"]` both work.
set -eu
case "${1-}" in -*) set -- nats-server "$@" ;; esac
exec "$@"
