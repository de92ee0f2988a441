#!/bin/sh
# Runs in the guest of `cargo xtask vm`, as root, once systemd is up: what a host with cgroup v2 and systemd shows and the
# development machine cannot. Each line begins with ok or FAILED; the last one is what the host waits for.
export PATH=/opt/mainstay:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root KUBECONFIG=/root/.kube/config
failed=0
ok() { echo "ok      $*"; }
bad() { echo "FAILED  $*"; failed=$((failed + 1)); }
# check WHAT COMMAND…: the command succeeds.
check() { what=$1; shift; if out=$("$@" 2>&1); then ok "$what"; else bad "$what: $out"; fi; }
# equal WHAT EXPECTED FOUND
equal() { if [ "$2" = "$3" ]; then ok "$1: $3"; else bad "$1: $3, not $2"; fi; }
# eventually SECONDS COMMAND…
eventually() { n=$(($1 * 2)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.5; n=$((n - 1)); done; "$@"; }
field() { kubectl get "$1" -o "jsonpath=$2"; }
is() { [ "$(field "$1" "$2")" = "$3" ]; }
# The cgroup of a pod's container, as the container's own process sees it from the host.
cgroup_of() { pid=$(pgrep -f "$1" | head -n 1); sed -n 's/^0:://p' "/proc/$pid/cgroup"; }

equal "the cgroup hierarchy" cgroup2fs "$(stat -fc %T /sys/fs/cgroup)"
echo "        kernel $(uname -r), AppArmor $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null || echo absent)"

check "the unit starts (Type=notify)" systemctl start mainstay
mkdir -p /root/.kube
check "up finds it running" mainstay up
for archive in /opt/mainstay/images/*.tar; do check "image import $(basename "$archive")" mainstay image import "$archive"; done

check "examples/web applies" kubectl apply -f /opt/mainstay/examples/web
check "three replicas are Ready" eventually 240 is sts/web '{.status.readyReplicas}' 3
check "a service answers from a pod, by its name" eventually 60 kubectl exec web-0 -c nginx -- bash -c 'echo >/dev/tcp/nginx/80'

kubectl apply -f - <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "sleep 86399"]
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "exec tail /dev/zero"]
    resources: {limits: {memory: 16Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: digger}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk && echo got the disk; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works; cat /dev/null && echo dev works"]
    securityContext: {capabilities: {add: [MKNOD, SYS_ADMIN]}}
Y
check "a limited pod runs" eventually 120 is pod/limited '{.status.phase}' Running
cg=/sys/fs/cgroup$(cgroup_of 'sleep 86399')
equal "memory.max" 33554432 "$(cat "$cg/memory.max")"
equal "cpu.max" "50000 100000" "$(cat "$cg/cpu.max")"
echo "        its cgroup: $cg, weight $(cat "$cg/cpu.weight")"
case $cg in *mainstay.service*) bad "pods live below the unit's cgroup: $cg" ;; *) ok "pods live outside the unit's cgroup" ;; esac
check "a pod past its memory limit is OOMKilled" eventually 120 is pod/hungry '{.status.containerStatuses[0].state.terminated.reason}' OOMKilled
check "the digger ended" eventually 120 sh -c '[ "$(kubectl get pod digger -o "jsonpath={.status.phase}")" = Succeeded ]'
said=$(kubectl logs digger 2>&1)
case $said in *"got the disk"*) bad "a container with MKNOD read the host's disk" ;; *) ok "the host's disk is closed to a container with MKNOD" ;; esac
case $said in *"dev works"*) ok "its own devices work" ;; *) bad "its own devices: $said" ;; esac

before=$(pgrep -f 'sleep 86399' | head -n 1)
check "systemctl restart" systemctl restart mainstay
check "the API is back" eventually 30 kubectl get --raw /readyz
equal "the pod outlived the unit" "$before" "$(pgrep -f 'sleep 86399' | head -n 1)"
kill -9 "$(systemctl show -p MainPID --value mainstay)"
check "back after kill -9" eventually 60 kubectl get --raw /readyz
check "exec works after it" eventually 60 kubectl exec limited -- true
check "stop the unit" systemctl stop mainstay
equal "the pod runs without an engine" "$before" "$(pgrep -f 'sleep 86399' | head -n 1)"
check "start it again" systemctl start mainstay
check "delete pods" kubectl delete pod limited hungry digger --timeout=60s
systemctl stop mainstay
check "down --purge" mainstay down --purge --yes
equal "cgroups left" "" "$(find /sys/fs/cgroup -maxdepth 2 -name 'mainstay*' ! -name mainstay.service | head -n 3)"
equal "mounts left" "" "$(grep -E 'mainstay' /proc/mounts | grep -v ' /opt' | head -n 3)"
equal "interfaces left" 0 "$(ip -o link | grep -c ' ms')"
[ "$failed" = 0 ] && echo "GUEST: PASSED" || echo "GUEST: $failed FAILED"
journalctl -u mainstay -p warning --no-pager -n 20 2>/dev/null | sed 's/^/        /'
echo "GUEST: END"
systemctl poweroff --no-block
