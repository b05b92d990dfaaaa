#!/bin/sh
# Runs a program as a hardened container does: an account without rights, a root that cannot be written to, a
# /tmp and a /data that can, no HOME, and nothing of the environment.
#   unshare --mount container.sh ROOT UID DATA MODELS PATH… -- PROGRAM ARGUMENT…
# ROOT: an empty directory. DATA: becomes /data. MODELS: becomes /models. PATH: seen inside, read-only.
set -eu
root=$1 uid=$2 data=$3 models=$4
shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/tmp" "$root/data" "$root/models"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
show() {
    [ -e "$1" ] || return 0
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
}
show /dev
show /proc
for path in /usr /lib /lib64 /bin /sbin /etc; do
    show "$path"
    [ ! -e "$path" ] || mount -o remount,ro,bind "$root$path"
done
while [ "$1" != -- ]; do
    show "$1"
    mount -o remount,ro,bind "$root$1"
    shift
done
shift
mount --bind "$data" "$root/data"
mount --bind "$models" "$root/models"
mount -o remount,ro,bind "$root/models"
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all \
    env -i PATH=/usr/bin:/bin EMBERQ_DATA_DIR=/data EMBERQ_MODELS_DIR=/models "$@"
