#!/bin/bash
# shellcheck disable=SC2086
exec java -XX:TieredStopAtLevel=1 -Dzookeeper.log.dir="${ZOO_LOG_DIR:-/logs}" -Dzookeeper.log.threshold=WARN -cp "${ZOOCFGDIR:-/conf}:/apache-zookeeper/lib/*" ${CLIENT_JVMFLAGS-} org.apache.zookeeper.ZooKeeperMain "$@"
