#!/bin/sh
# Install what the tests of the docker containerizer need: a Docker engine, a registry, and busybox to make an image of.
#
# Without root or network this says so and goes on: those tests fail then, unless MESETA_SKIP_DOCKER=1 says that they need not run.
set -u
[ "${MESETA_SKIP_DOCKER:-}" = 1 ] && exit 0
missing=
for pair in dockerd:docker.io iptables:iptables busybox:busybox-static docker-init:tini docker-registry:docker-registry; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
dpkg -s busybox-static >/dev/null 2>&1 || missing="$missing busybox-static"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "the tests of docker WILL FAIL:$missing: missing, and only root can install them; MESETA_SKIP_DOCKER=1 leaves these tests out" >&2
    exit 0
fi
install() {
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null
}
install 2>/dev/null || { apt-get update >/dev/null && install; } ||
    echo "the tests of docker WILL FAIL: apt-get cannot install$missing; MESETA_SKIP_DOCKER=1 leaves these tests out" >&2
