# Shared part of the start scripts of S3 servers for tests; not run by itself.
#
#   start-X.sh [start]   start in the background (or find it running) and print lines for `eval`
#   start-X.sh run       the same in the foreground; Ctrl-C or SIGTERM stops it
#   start-X.sh stop      stop the processes it started (by recorded pid, nothing else), delete the data
#   start-X.sh status    exit 0 and print the env lines if it runs, else exit 1
#   start-X.sh env       the env lines only
#   start-X.sh restart   kill the processes at once, as a power loss does, and start on the same data
#
#   eval "$(tests/servers/start-seaweedfs.sh)" && pytest -m s3;  tests/servers/start-seaweedfs.sh stop
#
# Environment: S3_PORT, S3_DIR (work folder), S3_BUCKET, S3_VERSIONED_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY,
#   S3_TLS=1 (self-signed https), S3_KEEP=1 (stop keeps the work folder, for its logs).
# Everything listens on S3_HOST only, 127.0.0.1 if that is not set. Each start begins with empty storage.
set -euo pipefail
umask 077

: "${S3_PORT:=$DEFAULT_PORT}" "${S3_BUCKET:=metafuse-test}" "${S3_VERSIONED_BUCKET:=metafuse-versioned}"
: "${S3_ACCESS_KEY:=testkey}" "${S3_SECRET_KEY:=testsecret}" "${S3_REGION:=us-east-1}" "${S3_TLS:=0}"
: "${S3_HOST:=127.0.0.1}"
: "${S3_DIR:=${TMPDIR:-/tmp}/s3-test-$NAME-$S3_PORT}"
[ "$S3_TLS" = 1 ] && SCHEME=https || SCHEME=http
ENDPOINT=$SCHEME://$S3_HOST:$S3_PORT
CERT=$S3_DIR/tls.crt KEY=$S3_DIR/tls.key CA=()
[ "$S3_TLS" = 1 ] && CA=(--cacert "$CERT")

say() { printf '%s: %s\n' "$NAME" "$*" >&2; }
die() { say "$@"; exit 1; }
need() { command -v "$1" >/dev/null || die "no '$1' on PATH: $2"; }

print_env() {
  local v="AWS_ENDPOINT_URL_S3=$ENDPOINT AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY"
  v+=" AWS_DEFAULT_REGION=$S3_REGION S3_TEST_SERVER=$NAME S3_TEST_BUCKET=$S3_BUCKET"
  v+=" S3_TEST_VERSIONED_BUCKET=$S3_VERSIONED_BUCKET"
  [ "$S3_TLS" = 1 ] && v+=" AWS_CA_BUNDLE=$CERT"
  echo "export $v"
}

# A pid file holds "pid start-time", so that a reused pid is never taken for ours.
birth() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
alive() {  # PIDFILE
  local pid born
  [ -s "$1" ] && read -r pid born < "$1" && [ "$(birth "$pid" 2>/dev/null)" = "$born" ] \
    && [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" != Z ]
}
spawn() {  # NAME COMMAND...   background daemon, output to NAME.log, pid to NAME.pid
  local name=$1; shift
  setsid nohup "$@" > "$S3_DIR/$name.log" 2>&1 < /dev/null &
  local pid=$!; sleep 0.05
  echo "$pid $(birth "$pid" || echo 0)" > "$S3_DIR/$name.pid"
}
all_alive() { local p found=1; for p in "$S3_DIR"/*.pid; do alive "$p" || return 1; found=0; done; return $found; }
signal() { local p pid _; for p in "$S3_DIR"/*.pid; do alive "$p" && { read -r pid _ < "$p"; kill "$1" "$pid" 2>/dev/null; }; done; true; }
any_alive() { local p; for p in "$S3_DIR"/*.pid; do alive "$p" && return 0; done; return 1; }

stop() {
  [ -d "$S3_DIR" ] || return 0
  signal -TERM
  for _ in $(seq 1 50); do any_alive || break; sleep 0.1; done
  signal -KILL
  for _ in $(seq 1 50); do any_alive || break; sleep 0.1; done
  if [ "${S3_KEEP:-0}" = 1 ]; then rm -f "$S3_DIR"/*.pid; else rm -rf "$S3_DIR"; fi
  if declare -F after_stop > /dev/null; then after_stop; fi
}

make_cert() {  # one self-signed certificate, good for localhost and 127.0.0.1
  need openssl "apt-get install openssl"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -keyout "$KEY" -out "$CERT" \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
}

# Signed requests with curl alone (7.75 or newer), so no Python environment is needed here.
s3_curl() {  # METHOD PATH [BODY]
  local body=${3:-} hash; hash=$(printf %s "$body" | sha256sum | cut -d' ' -f1)
  curl -sS --fail-with-body --max-time 20 "${CA[@]}" -X "$1" --data-binary "$body" -o "$S3_DIR/curl.out" \
    -H "x-amz-content-sha256: $hash" -H 'content-type: application/xml' \
    --user "$S3_ACCESS_KEY:$S3_SECRET_KEY" --aws-sigv4 "aws:amz:$S3_REGION:s3" "$ENDPOINT$2"
}
make_buckets() {
  s3_curl PUT "/$S3_BUCKET" && s3_curl PUT "/$S3_VERSIONED_BUCKET" &&
    s3_curl PUT "/$S3_VERSIONED_BUCKET?versioning=" \
      '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
}
answers() { curl -s -o /dev/null --max-time 2 "${CA[@]}" "$ENDPOINT/"; }

start() {
  if all_alive && answers; then say "already running at $ENDPOINT"; return; fi
  answers && die "port $S3_PORT is taken by something else: set S3_PORT"
  need curl "apt-get install curl"
  S3_KEEP=0 stop
  mkdir -p "$S3_DIR"; S3_DIR=$(cd "$S3_DIR" && pwd)
  [ "$S3_TLS" = 1 ] && make_cert
  await_launch
  local tries=0   # ready means: a bucket can be made, not only that the port answers
  until make_buckets 2> "$S3_DIR/curl.err"; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { cat "$S3_DIR"/curl.* >&2; S3_KEEP=1 stop; die "cannot create a bucket"; }
    sleep 0.2
  done
}

await_launch() {
  local t0=$SECONDS
  launch          # from the start-X.sh script
  until answers; do
    all_alive || { tail -n 20 "$S3_DIR"/*.log >&2; S3_KEEP=1 stop; die "a process ended during the start"; }
    [ $((SECONDS - t0)) -lt 90 ] || { tail -n 20 "$S3_DIR"/*.log >&2; S3_KEEP=1 stop; die "no answer in 90 s"; }
    sleep 0.1
  done
  after_ready     # likewise; may be empty
}

restart() {
  all_alive || die "not running"
  signal -KILL
  for _ in $(seq 1 50); do any_alive || break; sleep 0.1; done
  await_launch
}

main() {
  case "${1:-start}" in
    start)  start; print_env ;;
    run)    trap 'stop; exit 0' INT TERM; start; print_env
            while all_alive; do sleep 1 & wait $! || true; done
            tail -n 20 "$S3_DIR"/*.log >&2; stop; die "a process ended by itself" ;;
    stop)   stop ;;
    restart) restart; print_env ;;
    status) all_alive && answers && print_env ;;
    env)    print_env ;;
    *)      die "usage: ${0##*/} [start|run|stop|status|env|restart]" ;;
  esac
}
