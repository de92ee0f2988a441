#!/bin/bash
# healthcheck.sh TEST…: exits 0 if all hold. The tests of the well-known image that probes use:
#   --connect --innodb_initialized --galera_online --galera_ready --replication_io --replication_sql --replication
#   --replication_seconds_behind_master=N, and --su-mysql, which is accepted.
set -eo pipefail
datadir=${MARIADB_DATADIR:-/var/lib/mysql}
defaults=(--defaults-file="$datadir/.my-healthcheck.cnf")
[ -r "$datadir/.my-healthcheck.cnf" ] || defaults=()
ask() { mariadb "${defaults[@]}" --skip-ssl --batch --skip-column-names -e "$1"; }
status() { ask "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='$1'"; }
replica() { ask 'SHOW REPLICA STATUS\G' | awk -v name="$1:" '$1 == name { print $2 }'; }
[ $# -gt 0 ] || { echo "no test is named" >&2; exit 1; }
for test; do
	case "$test" in
	--su-mysql) ;;
	# Over TCP, which the server of the first start does not offer. Who is refused has connected.
	--connect) mariadb "${defaults[@]}" --skip-ssl --protocol=tcp --host=127.0.0.1 -e 'SELECT 1' 2>&1 | grep -qE '^1$|ERROR 1045' ;;
	--innodb_initialized) [ "$(ask "SELECT 1 FROM information_schema.ENGINES WHERE engine='innodb' AND support IN ('YES', 'DEFAULT', 'ENABLED')")" = 1 ] ;;
	--galera_online) [ "$(status WSREP_LOCAL_STATE)" = 4 ] ;;
	--galera_ready) [ "$(status WSREP_READY)" = ON ] ;;
	--replication_io) [ "$(replica Slave_IO_Running)" = Yes ] ;;
	--replication_sql) [ "$(replica Slave_SQL_Running)" = Yes ] ;;
	--replication) [ "$(replica Slave_IO_Running)$(replica Slave_SQL_Running)" = YesYes ] ;;
	--replication_seconds_behind_master=*) behind=$(replica Seconds_Behind_Master); [ "$behind" != NULL ] && [ "${behind:-999999}" -le "${test#*=}" ] ;;
	*) echo "$test is not known" >&2; exit 1 ;;
	esac
done
