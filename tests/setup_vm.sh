#!/bin/sh
# Lay out in .cache/vm what the tests in a virtual machine need: Debian's Linux for user mode and a static busybox. Nothing is installed,
# and nobody needs to be root.
#
# Without network, or elsewhere than on Debian for x86, this says so and goes on: those tests are skipped then.
set -u
cd "$(dirname "$0")/.."
home=$PWD/.cache/vm
[ -x "$home/usr/bin/linux.uml" ] && [ "$home/ready" -nt "$0" ] && exit 0
lay_out() {
    rm -rf "$home" && mkdir -p "$home" && cd "$home" || return 1
    apt-get download user-mode-linux busybox-static >/dev/null 2>&1 || return 1
    for package in *.deb; do
        dpkg -x "$package" . && rm "$package" || return 1
    done
    touch ready
}
lay_out || { [ "$(id -u)" -eq 0 ] && apt-get update >/dev/null && lay_out; } ||
    echo "Tests in a virtual machine WILL BE SKIPPED: apt-get cannot download user-mode-linux and busybox-static" >&2
