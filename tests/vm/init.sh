#!/bin/sh
# First process of the tests' virtual machine. Its files are those of the machine below, under a layer that is forgotten with it; then
# come the control groups asked for; then the command. From the kernel's command line: VM_HOME, where the kernel's packages are laid out;
# VM_SHARE, a folder of the machine below to read the command from and to write its exit status to; VM_CGROUPS, which see below.
set -u
busybox=$VM_HOME/bin/busybox
[ -x "$busybox" ] || busybox=$VM_HOME/usr/bin/busybox
modules=$VM_HOME/usr/lib/uml/modules/$("$busybox" uname -r)
do_mount() {
    "$busybox" mount -t "$@"
}

if [ "${1:-}" != above ]; then
    do_mount tmpfs tmpfs /run
    "$busybox" mkdir /run/files /run/files/upper /run/files/work /run/root
    "$busybox" insmod "$modules/kernel/fs/overlayfs/overlay.ko"
    do_mount overlay -o "lowerdir=/,upperdir=/run/files/upper,workdir=/run/files/work" overlay /run/root
    cd /run/root
    "$busybox" pivot_root . mnt
    exec "$busybox" chroot . "$0" above
fi

"$busybox" umount -l /mnt
do_mount proc proc /proc
do_mount sysfs sysfs /sys
do_mount devtmpfs devtmpfs /dev
"$busybox" mkdir -p /dev/pts /dev/shm
do_mount devpts devpts /dev/pts
do_mount tmpfs tmpfs /dev/shm
do_mount tmpfs tmpfs /run
do_mount hostfs -o "$VM_SHARE" none /media
"$busybox" mkdir -p /run/tmp /run/bin /run/lock /lib/modules
"$busybox" ln -sfn "$modules" "/lib/modules/$("$busybox" uname -r)"
"$busybox" ln -s "$busybox" /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe
echo 2000 >/proc/sys/kernel/threads-max # Each is a process of the machine below, too.
"$busybox" ifconfig lo 127.0.0.1 up
"$busybox" hostname vm

groups=/sys/fs/cgroup
one() { # Version 1: a hierarchy for each of these controllers.
    do_mount tmpfs tmpfs "$groups"
    for names in "$@"; do
        "$busybox" mkdir -p "$groups/$names"
        do_mount cgroup -o "$names" cgroup "$groups/$names"
    done
}
two() {
    "$busybox" mkdir -p "$1"
    do_mount cgroup2 cgroup2 "$1"
}
every="cpu,cpuacct memory pids devices freezer blkio"
case $VM_CGROUPS in
1)
    one $every
    ;;
2)
    two $groups
    ;;
mixed) # Version 1 has the cpus, and what runc cannot do without; version 2 the rest.
    one cpu,cpuacct devices freezer
    two $groups/unified
    ;;
container-1) # As a container sees it: of each tree the part that it is in itself, which it knows by the name it has in the whole.
    one $every
    for names in $every; do
        "$busybox" mkdir "$groups/$names/box"
        echo 0 >"$groups/$names/box/tasks"
        "$busybox" mount --bind "$groups/$names/box" "$groups/$names"
    done
    ;;
container-2) # As a container sees it: the root of its tree is a group of somebody else's, and everything runs in it.
    two $groups
    echo "+cpu +memory +pids" >"$groups/cgroup.subtree_control"
    "$busybox" mkdir "$groups/box"
    echo 0 >"$groups/box/cgroup.procs"
    ;;
esac
(
    "$busybox" cat /dev/tty2 >/dev/null # Until whoever started us is gone.
    exec "$busybox" poweroff -f
) &
"$busybox" stty -opost </dev/tty1
if [ "$VM_CGROUPS" = container-2 ]; then
    set -- unshare --cgroup --mount sh -c "umount $groups && mount -t cgroup2 cgroup2 $groups && . /media/command"
else
    set -- sh /media/command
fi
"$@" </dev/null >/dev/tty1 2>&1
echo $? >/media/status
exec "$busybox" poweroff -f
