#!/usr/bin/env bash
# Fails over by hand: fences the primary, promotes the replica that received most, points the others and the writers at it, and checks it.
# Usage: examples/postgres/failover.sh [kubectl options, such as -n NAMESPACE]
set -euo pipefail
kubectl=("${KUBECTL:-kubectl}" "$@")
say() { printf '== %s\n' "$*"; }
fail() { echo "failover: $*" >&2; exit 1; }
psql() { "${kubectl[@]}" exec "$1" -c postgres -- psql -U postgres -Atqc "$2"; }
# name_primary POD: what new pods read, and where the Service leads.
name_primary() {
	"${kubectl[@]}" patch configmap postgres-role --type merge -p "{\"data\":{\"primary\":\"$1\"}}" >/dev/null
	"${kubectl[@]}" patch service postgres-primary -p "{\"spec\":{\"selector\":{\"statefulset.kubernetes.io/pod-name\":\"${1:-nobody}\"}}}" >/dev/null
}
# within SECONDS WHAT COMMAND…
within() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "$what: not in time"
		sleep 0.5
	done
}
is_primary() { [ "$(psql "$1" 'SELECT pg_is_in_recovery()')" = f ]; }
streams() { [ "$(psql "$1" "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")" -ge "$2" ]; }

old=$("${kubectl[@]}" get configmap postgres-role -o jsonpath='{.data.primary}')
[ -n "$old" ] || fail "no primary is named in ConfigMap postgres-role: an earlier failover was interrupted; name one there"
mapfile -t others < <("${kubectl[@]}" get pods -l app=postgres -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}' | grep -vx "$old")
[ ${#others[@]} -gt 0 ] || fail "there is no replica to promote"

if psql "$old" "CREATE TABLE IF NOT EXISTS failover (at timestamptz PRIMARY KEY, primary_was text)" 2>/dev/null; then
	mark=$(psql "$old" "INSERT INTO failover VALUES (clock_timestamp(), '$old') RETURNING at")
	say "$old is up; written before the failover: $mark"
fi

say "fencing $old: nobody is primary"
name_primary ""
"${kubectl[@]}" delete pod "$old" --ignore-not-found

best="" furthest=0
for pod in "${others[@]}"; do
	received=$(psql "$pod" "SELECT pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint") || continue
	say "$pod received up to $received"
	if [ "$received" -gt "$furthest" ]; then best=$pod furthest=$received; fi
done
[ -n "$best" ] || { name_primary "$old"; fail "no replica answers; $old stays the primary"; }

say "promoting $best"
psql "$best" "SELECT pg_promote()" >/dev/null
within 60 "$best takes writes" is_primary "$best"
name_primary "$best"
within 180 "the others follow $best" streams "$best" ${#others[@]}
if [ -n "${mark-}" ]; then
	[ "$(psql "$best" "SELECT count(*) FROM failover WHERE at = '$mark'")" = 1 ] || fail "$best lacks what was written before the failover"
fi
say "done: $best is the primary, ${#others[@]} replicas stream from it"
