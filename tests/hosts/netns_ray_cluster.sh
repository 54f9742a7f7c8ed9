#!/usr/bin/env bash
# A multi-"host" Ray cluster on one Linux machine, and a host of its own for storage. Every host has its own network namespace (own IP,
# veth into a private bridge, no way out), PID namespace (one kill = power loss), mount namespace
# (own /tmp and /dev/shm) and host name. Needs root, iproute2, util-linux, and `ray` on PATH.
#   up [N]               start h0 (head) .. h{N-1}   (N defaults to 3); `net [N]`, then `boot`, in steps
#   exec hI CMD...       run CMD on host hI (same working directory)
#   cut hI | heal hI     unplug / replug the host's cable (silent: no RST, like a dead switch port)
#   rate hI RATE|off     shape both directions of the cable, e.g. 200mbit (tbf)
#   kill-raylet hI       kill -9 the raylet of hI
#   kill-host hI         kill -9 everything on hI at once (power loss)
#   start hI             boot a host again after kill-host
#   spot hI [SECONDS]    drain hI with a deadline, as a spot notice does, then kill it (default 30)
#   kill-worker hI       kill -9 the processes of actors and tasks on hI
#   storage CMD...       run CMD on the storage host ($NET.200: a network of its own, nothing else)
#   check                say what this machine lacks for all that
#   status | down
# Interfaces live in the namespace TAG-hub, whose address is $NET.1: whoever enters it is a machine
# beside the cluster that has network access to all hosts and nothing else.
# Environment: RAYNS (state folder, default under XDG_RUNTIME_DIR or /var/tmp; hosts see their own /tmp, so
#   neither it nor the folder you work in may lie under /tmp),
#   RAYNS_TAG (prefix of namespace names, default rayns; set it to run several at once),
#   RAYNS_CPUS (2), RAYNS_STORE (bytes, 268435456), RAYNS_MEM (bytes per host; default 2 GiB),
#   RAYNS_HEAD_CPUS (0: keep work off the head), RAYNS_PORT (6379), RAYNS_AUTH (token|disabled),
#   RAYNS_START_ARGS (extra `ray start` arguments for all hosts); RAY_* variables are passed through.
set -euo pipefail
TAG=${RAYNS_TAG:-rayns}
S=${RAYNS:-${XDG_RUNTIME_DIR:-/var/tmp}/$TAG}
HUB=$TAG-hub; NET=${RAYNS_NET:-10.77.0}; PORT=${RAYNS_PORT:-6379}
CPUS=${RAYNS_CPUS:-2}; STORE=${RAYNS_STORE:-268435456}; MEM=${RAYNS_MEM:-2147483648}
num_of() { [ "$1" = storage ] && echo 190 || echo "${1#h}"; }
ip_of() { echo "$NET.$((10 + $(num_of "$1")))"; }
pid_of() { cat "$S/$1/init.pid"; }
die() { echo "$*" >&2; exit 1; }
for d in "$S" "$PWD"; do case $d in /tmp/*) die "$d: hosts have their own /tmp; use another folder";; esac; done
mine() { # the host's process 1, only if that pid still lives in the host's namespace (pids get reused)
  local p; p=$(cat "$S/$1/init.pid" 2>/dev/null) || return 1
  [ "$(ip netns identify "$p" 2>/dev/null)" = "$TAG-$1" ] && echo "$p"; }
inns() { local h=$1; shift; nsenter -t "$(pid_of "$h")" -m -u -n -p -- "$@"; }

cable() { # one host: its namespace and its cable
  local h=$1 i; i=$(num_of "$h")
  ip netns add "$TAG-$h"
  ip -n "$TAG-$h" link set lo up
  ip -n "$HUB" link add "p$i" type veth peer name eth0 netns "$TAG-$h"
  ip -n "$HUB" link set "p$i" master br0 up
  ip -n "$TAG-$h" addr add "$(ip_of "$h")/24" dev eth0
  ip -n "$TAG-$h" link set eth0 up
}

boot() { # start a host's init and its ray node
  local h=$1 args cpus=$CPUS
  mkdir -p "$S/$h/tmp" "$S/$h/home"; rm -f "$S/$h/init.pid" "$S/$h/ready"; rm -rf "$S/$h/tmp/ray"
  if [ "$h" = h0 ]; then
    cpus=${RAYNS_HEAD_CPUS:-0}
    args="--head --port=$PORT --dashboard-host=$(ip_of h0) --dashboard-port=8265 --include-dashboard=true"
  else args="--address=$(ip_of h0):$PORT"; fi
  args="$args --node-ip-address=$(ip_of "$h") --num-cpus=$cpus --memory=$MEM --object-store-memory=$STORE \
 --resources='{\"$h\":1}' --disable-usage-stats ${RAYNS_START_ARGS:-}"
  cat > "$S/$h/init.sh" <<EOF
set -e
mount --make-rprivate /; mount --bind "$S/$h/tmp" /tmp; mount -t tmpfs -o size=4g tmpfs /dev/shm
hostname $h; export HOME="$S/$h/home"; cd "$PWD"
mkdir -p /tmp/ray; ulimit -n 65536 2>/dev/null || true
ray start $args > "$S/$h/ray-start.log" 2>&1 && touch "$S/$h/ready" || touch "$S/$h/failed"
trap 'exit 0' TERM
while :; do sleep 1; done
EOF
  rm -f "$S/$h/failed"
  setsid ip netns exec "$TAG-$h" unshare --mount --uts --pid --fork --mount-proc --kill-child \
    env RAY_AUTH_MODE="${RAYNS_AUTH:-token}" RAY_AUTH_TOKEN_PATH="$S/token" \
    bash "$S/$h/init.sh" > "$S/$h/init.log" 2>&1 < /dev/null &
  local outer=$!
  for _ in $(seq 100); do # pid of the namespace's process 1, seen from outside
    p=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ') && [ -n "$p" ] && break; sleep 0.05; done
  echo "$p" > "$S/$h/init.pid"; echo "$outer" > "$S/$h/outer.pid"
}

await() { for _ in $(seq 600); do
    [ -e "$S/$1/ready" ] && return 0
    [ -e "$S/$1/failed" ] && { tail -20 "$S/$1/ray-start.log" >&2; die "$1: ray start failed"; }
    sleep 0.1; done; die "$1 did not start in 60 s"; }

check() { # whether this machine can do it
  local probe=$TAG-probe-$$ tool
  [ "$(id -u)" = 0 ] || die "several hosts on one machine need root (network namespaces); this is user $(id -un)"
  for tool in ip:iproute2 tc:iproute2 nsenter:util-linux unshare:util-linux curl:curl; do
    command -v "${tool%%:*}" > /dev/null || die "no '${tool%%:*}' on PATH: install ${tool##*:}"; done
  ip netns add "$probe" 2> /dev/null || die "this root cannot make network namespaces (a container without CAP_SYS_ADMIN?)"
  ip -n "$probe" link add br0 type bridge 2> /dev/null || { ip netns del "$probe"; die "this kernel has no bridges"; }
  ip netns del "$probe"
  unshare --mount --uts --pid --fork true 2> /dev/null || die "this root cannot make PID and mount namespaces"
}

cmd=${1:-}; [ -n "$cmd" ] || { sed -n 2,30p "$0"; exit 2; }; shift
case $cmd in
check) check;;
net) # the hub, storage and the cables
  n=${1:-3}; [ ! -e "$S/n" ] || die "already up: $S"
  mkdir -p "$S"; S=$(cd "$S" && pwd)
  (umask 077; head -c 32 /dev/urandom | sha256sum | cut -d' ' -f1 | tr -d '\n' > "$S/token")
  echo "$n" > "$S/n"
  ip netns add "$HUB"; ip -n "$HUB" link add br0 type bridge; ip -n "$HUB" link set br0 up
  ip -n "$HUB" link set lo up; ip -n "$HUB" addr add "$NET.1/24" dev br0
  cable storage
  for ((i = 0; i < n; i++)); do cable "h$i"; done;;
boot)
  n=$(cat "$S/n"); S=$(cd "$S" && pwd)
  boot h0; await h0
  for ((i = 1; i < n; i++)); do boot "h$i"; done
  for ((i = 1; i < n; i++)); do await "h$i"; done
  echo "head $(ip_of h0):$PORT  dashboard http://$(ip_of h0):8265  token file $S/token";;
up) "$0" net "${1:-3}"; "$0" boot;;
exec)
  h=$1; shift
  nsenter -t "$(pid_of "$h")" -m -u -n -p --wd="$PWD" -- env RAY_AUTH_MODE="${RAYNS_AUTH:-token}" \
    RAY_AUTH_TOKEN_PATH="$S/token" RAY_ADDRESS="$(ip_of h0):$PORT" \
    RAY_API_SERVER_ADDRESS="http://$(ip_of h0):8265" HOME="$S/$h/home" "$@";;
storage) exec ip netns exec "$TAG-storage" "$@";;
cut)  ip -n "$HUB" link set "p$(num_of "$1")" down;;
heal) ip -n "$HUB" link set "p$(num_of "$1")" up;;
rate)
  i=$(num_of "$1")
  for side in "$HUB:p$i" "$TAG-$1:eth0"; do
    if [ "$2" = off ]; then tc -n "${side%%:*}" qdisc del dev "${side##*:}" root 2>/dev/null || true
    else tc -n "${side%%:*}" qdisc replace dev "${side##*:}" root tbf rate "$2" burst 256kb latency 50ms; fi
  done;;
kill-raylet) # by exact pid, found inside the host's own PID namespace
  p=$(inns "$1" sh -c 'for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in raylet) echo ${p#/proc/};; esac; done')
  inns "$1" kill -9 $p;;
kill-worker)
  p=$(inns "$1" sh -c 'for p in /proc/[0-9]*; do read -r c < $p/cmdline; case $c in ray::*Agent*|ray::IDLE*|ray::JobSupervisor*) ;; ray::*) echo ${p#/proc/};; esac; done' 2>/dev/null)
  [ -n "$p" ] || die "$1 has no workers"; inns "$1" kill -9 $p;;
kill-host) p=$(mine "$1") || die "$1 is not running"; kill -9 "$p"; rm -f "$S/$1/ready" "$S/$1/init.pid";;
start) ! mine "$1" > /dev/null || die "$1 is running"; boot "$1"; await "$1";;
spot)
  h=$1; t=${2:-30}
  id=$("$0" exec h0 python -c "
import ray; ray.init(logging_level='ERROR', log_to_driver=False)
print(next(n['NodeID'] for n in ray.nodes() if n['Alive'] and n['NodeManagerAddress']=='$(ip_of "$h")'))" 2>/dev/null | tail -1)
  "$0" exec h0 ray drain-node --node-id "$id" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message "spot notice" --deadline-remaining-seconds "$t"
  sleep "$t"; "$0" kill-host "$h";;
status) "$0" exec h0 ray status;;
down)
  [ -e "$S/n" ] || exit 0; n=$(cat "$S/n")
  for ((i = n - 1; i >= 0; i--)); do p=$(mine "h$i") && kill -9 "$p" || true; done
  sleep 0.3
  all=storage; for ((i = 0; i < n; i++)); do all+=" h$i"; done
  for h in $all; do for p in $(ip netns pids "$TAG-$h" 2>/dev/null); do kill -9 "$p" || true; done; done
  for h in $all; do ip netns del "$TAG-$h" 2>/dev/null || true; done
  ip netns del "$HUB" 2>/dev/null || true; rm -rf "$S";;
*) die "unknown command $cmd";;
esac
