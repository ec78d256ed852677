#!/bin/sh
# Install what the tests of images need: Debian's runc, and a static busybox of which their images are made.
#
# Without root or network this says so and goes on: those tests are skipped then, each telling why.
set -u
command -v runc >/dev/null && command -v busybox >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Tests of images WILL BE SKIPPED: runc or busybox-static is missing, and only root can install them" >&2
    exit 0
fi
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends runc busybox-static >/dev/null
}
install 2>/dev/null || { apt-get update >/dev/null && install; } ||
    echo "Tests of images WILL BE SKIPPED: apt-get cannot install runc and busybox-static" >&2
