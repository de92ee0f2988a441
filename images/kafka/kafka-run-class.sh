#!/bin/bash
# kafka-run-class.sh CLASS [ARGUMENTS]: Java with Kafka's class path and the options users set: KAFKA_HEAP_OPTS, KAFKA_OPTS,
# KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_JMX_OPTS, JMX_PORT, KAFKA_LOG4J_OPTS.
set -eu
: "${LOG_DIR:=/opt/kafka/logs}" "${KAFKA_LOG4J_OPTS:=-Dlog4j.configuration=file:/etc/kafka/docker/tools-log4j.properties}"
if [ "${KAFKA_SERVER-}" = yes ]; then
	: "${KAFKA_JVM_PERFORMANCE_OPTS:=-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}"
	: "${KAFKA_JMX_OPTS:=-Dcom.sun.management.jmxremote -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false}"
	[ -z "${JMX_PORT-}" ] || KAFKA_JMX_OPTS="$KAFKA_JMX_OPTS -Dcom.sun.management.jmxremote.port=$JMX_PORT -Dcom.sun.management.jmxremote.rmi.port=$JMX_PORT"
else
	# A command is short: a heap of the server's size, and its compiler, would only make it slow.
	: "${KAFKA_JVM_PERFORMANCE_OPTS:=-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true}" "${KAFKA_JMX_OPTS:=}"
	KAFKA_HEAP_OPTS=${KAFKA_TOOLS_HEAP_OPTS:--Xmx256M}
fi
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} $KAFKA_JVM_PERFORMANCE_OPTS $KAFKA_JMX_OPTS -Dkafka.logs.dir="$LOG_DIR" $KAFKA_LOG4J_OPTS ${KAFKA_OPTS-} -cp "/opt/kafka/libs/*${CLASSPATH:+:$CLASSPATH}" "$@"
