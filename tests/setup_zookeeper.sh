#!/bin/sh
# Install what the tests of high availability need: Debian's ZooKeeper library, which has the server in it, and a Java to run it.
#
# Without root or network this says so and goes on: those tests are skipped then, each telling why.
set -u
jar=/usr/share/java/zookeeper.jar
[ -e "$jar" ] && command -v java >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "ZooKeeper's tests WILL BE SKIPPED: libzookeeper-java or a Java is missing, and only root can install them" >&2
    exit 0
fi
packages=libzookeeper-java
command -v java >/dev/null || packages="$packages default-jre-headless"
install() {
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >/dev/null
}
install 2>/dev/null || { apt-get update >/dev/null && install; } ||
    echo "ZooKeeper's tests WILL BE SKIPPED: apt-get cannot install $packages" >&2
