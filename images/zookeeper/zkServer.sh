#!/bin/bash
# zkServer.sh start-foreground | status | print-cmd [CONFIG]
set -eu
command=${1-}
config=${2:-${ZOOCFGDIR:-/conf}/${ZOOCFG:-zoo.cfg}}
case "$config" in */*) ;; *) config=${ZOOCFGDIR:-/conf}/$config ;; esac
heap=()
[ -z "${ZK_SERVER_HEAP-}" ] || heap=("-Xmx${ZK_SERVER_HEAP}m")
jmx=()
if [ "${JMXDISABLE-}" != true ] && [ -n "${JMXPORT-}" ]; then
	jmx=(-Dcom.sun.management.jmxremote "-Dcom.sun.management.jmxremote.port=$JMXPORT" -Dcom.sun.management.jmxremote.authenticate="${JMXAUTH:-false}" -Dcom.sun.management.jmxremote.ssl="${JMXSSL:-false}")
fi
classpath="${ZOOCFGDIR:-/conf}:/apache-zookeeper/lib/*${CLASSPATH:+:$CLASSPATH}"
# shellcheck disable=SC2206
server=(java -Dzookeeper.log.dir="${ZOO_LOG_DIR:-/logs}" -XX:+HeapDumpOnOutOfMemoryError -XX:OnOutOfMemoryError='kill -9 %p' -cp "$classpath" "${heap[@]}" "${jmx[@]}" ${JVMFLAGS-} ${SERVER_JVMFLAGS-} org.apache.zookeeper.server.quorum.QuorumPeerMain "$config")

setting() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*//p" "$config" | tail -1; }

case "$command" in
start-foreground) exec "${server[@]}" ;;
print-cmd) printf '%q ' "${server[@]}"; echo ;;
status)
	echo "Using config: $config" >&2
	port=$(setting clientPort)
	if [ -z "$port" ]; then
		# server.N=host:2888:3888;[address:]2181
		id=$(cat "$(setting dataDir)/myid" 2>/dev/null || echo 0)
		port=$(setting "server\.$id" | sed -n 's/.*;//p'); port=${port##*:}
	fi
	echo "Client port found: ${port:=2181}. Client address: localhost. Client SSL: false." >&2
	if exec 3<>"/dev/tcp/127.0.0.1/$port" 2>/dev/null && echo srvr >&3 && mode=$(timeout 5 grep '^Mode' <&3); then
		echo "$mode"
	else
		echo "Error contacting service. It is probably not running." >&2
		exit 1
	fi
	;;
*) echo "Usage: zkServer.sh [--config <conf-dir>] {start-foreground|status|print-cmd}" >&2; exit 1 ;;
esac
