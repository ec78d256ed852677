#!/bin/sh
# Install what the tests of Celery jobs need: Debian's Redis server, which is broker and result back end.
#
# Without root or network this says so and goes on: those tests are skipped then, each telling why.
set -u
command -v redis-server >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Celery's tests WILL BE SKIPPED: redis-server is missing, and only root can install it" >&2
    exit 0
fi
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server >/dev/null
}
install 2>/dev/null || { apt-get update >/dev/null && install; } ||
    echo "Celery's tests WILL BE SKIPPED: apt-get cannot install redis-server" >&2
