#!/bin/sh
# Install what the tests of images need: Debian's runc, a static busybox of which their images are made, and plugins for their networks.
#
# Without root or network this says so and goes on: those tests are skipped then, each telling why.
set -u
have_plugins() {
    [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ]
}
command -v runc >/dev/null && command -v busybox >/dev/null && command -v iptables >/dev/null && have_plugins && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Tests of images WILL BE SKIPPED: runc, busybox-static, iptables or containernetworking-plugins is missing, and only root can install them" >&2
    exit 0
fi
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends runc busybox-static iptables containernetworking-plugins >/dev/null
}
install 2>/dev/null || { apt-get update >/dev/null && install; } ||
    echo "Tests of images WILL BE SKIPPED: apt-get cannot install runc, busybox-static, iptables and containernetworking-plugins" >&2
