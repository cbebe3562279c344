#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# The module under the name erofs: with the parameter erofs=1, what asks for erofs gets it, unless the C driver is
# there already. What it shows is compared with the directory that the image was made of, and with the C driver.

. "$FEROFS_TESTS/lib.sh"
[ -n "${FEROFS_KO:-}" ] || { echo "# no FEROFS_KO: a built-in file system has no module to test"; exit 0; }
sample
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1

# How often a name stands in /proc/filesystems.
registered() {
    awk -v name="$1" '$NF == name { n++ } END { print n + 0 }' /proc/filesystems
}

# How many mounts and other users the module has.
users() {
    awk '$1 == "ferofs" { print $3 }' /proc/modules
}

# shows NAME DIR: passes if what is in the directory is what the image was made of.
shows() {
    ferofs-testkit manifest "$2" >found.manifest
    same "$1" "$SHARED/sample.manifest" found.manifest
}

rmmod ferofs 2>output || fail "the module unloads" output
modprobe erofs
check "modinfo tells of the parameter" sh -c "modinfo -F parm '$FEROFS_KO' | grep -q '^erofs:'"
refuses "a value that is no yes or no" "nvalid" insmod "$FEROFS_KO" erofs=perhaps

# The C driver was first.
dmesg -C
check "loads though the C driver has the name" insmod "$FEROFS_KO" erofs=1
check "and says so, once, with what to do" sh -c "[ \"\$(dmesg | grep -c 'another driver is the filesystem type erofs.*modprobe -r erofs')\" = 1 ]"
check "erofs is there once" [ "$(registered erofs)" = 1 ]
check "ferofs is, too" [ "$(registered ferofs)" = 1 ]
mounted -t erofs full.erofs other
check "erofs is the C driver" [ "$(users)" = 0 ]
umount other
rmmod ferofs
check "unloading leaves the C driver its name" [ "$(registered erofs)" = 1 ]

# Without the parameter nothing is taken.
modprobe -r erofs
insmod "$FEROFS_KO"
check "without the parameter there is no erofs" [ "$(registered erofs)" = 0 ]
rmmod ferofs
insmod "$FEROFS_KO" erofs=0
check "nor with erofs=0" [ "$(registered erofs)" = 0 ]
rmmod ferofs

# Both names.
dmesg -C
check "loads with erofs=n erofs=1, as several files of modprobe.d may say" insmod "$FEROFS_KO" erofs=n erofs=1
check "sysfs has the parameter" grep -qx Y /sys/module/ferofs/parameters/erofs
check "without a word" sh -c '! dmesg | grep -q "another driver"'
check "erofs is registered" [ "$(registered erofs)" = 1 ]
check "ferofs is registered" [ "$(registered ferofs)" = 1 ]
check "a file is mounted as erofs" mounted -t erofs full.erofs under-test
check "by this module" [ "$(users)" -gt 0 ]
check "findmnt shows the name" [ "$(findmnt -no FSTYPE --mountpoint under-test)" = erofs ]
check "/proc/mounts does, too" grep -q "$WORK/under-test erofs ro" /proc/mounts
check "stat -f names the type" [ "$(stat -f -c %T under-test)" = erofs ]
shows "everything is as in the directory" under-test
refuses "an image on such a mount" "cannot be nested" mounted -t erofs under-test/sizes/65537 inner
check "the same image as ferofs beside it" mounted -t ferofs full.erofs other
shows "shows the same" other
umount other
refuses "a mount keeps the module" "in use\|busy\|temporarily" rmmod ferofs
refuses "the C driver cannot have the name now" "exists\|busy" modprobe erofs
umount under-test

# A block device, by mount(8), which knows nothing of this module.
modprobe loop
loop=$(losetup --show -rf full.erofs)
check "mount -t erofs of a block device" mount -t erofs -o ro "$loop" under-test
check "is this module's" [ "$(users)" -gt 0 ]
shows "and shows all" under-test
umount under-test
check "mount(8) finds the type of the device itself" mount -o ro "$loop" under-test
check "which is erofs" [ "$(findmnt -no FSTYPE --mountpoint under-test)" = erofs ]
umount under-test
losetup -d "$loop"
check "unloads" rmmod ferofs
check "and both names are gone" [ "$(registered erofs)$(registered ferofs)" = 00 ]
check "the C driver has its name again" modprobe erofs
check "and mounts" mounted -t erofs full.erofs under-test
umount under-test

# The C driver knows its own mounts when it looks what a file lies on, and not these: a chain of both has to end with this one.
insmod "$FEROFS_KO"
mkdir -p chain
cp full.erofs chain/inner.erofs && truncate -s %4096 chain/inner.erofs
mkfs.erofs --quiet middle.erofs chain >output 2>&1 && truncate -s %4096 middle.erofs
mkdir -p chain2 && cp middle.erofs chain2 && mkfs.erofs --quiet outer.erofs chain2 >output 2>&1 && truncate -s %4096 outer.erofs
mounted -t ferofs outer.erofs under-test
check "the C driver mounts what is on this one" mounted -t erofs under-test/middle.erofs other
refuses "no third over them" "cannot be nested" mounted -t ferofs other/inner.erofs inner
umount other
umount under-test
mounted -t erofs outer.erofs under-test
refuses "none over the C driver's" "cannot be nested" mounted -t ferofs under-test/middle.erofs other
umount under-test
rmmod ferofs
modprobe -r erofs

# Loaded on demand, as Documentation/mounting.md says. The machine has the module where depmod finds it.
mkdir -p /etc/modprobe.d
cat >/etc/modprobe.d/ferofs-as-erofs.conf <<EOF
blacklist erofs
alias fs-erofs ferofs
options ferofs erofs=1
EOF
check "modprobe finds ferofs for fs-erofs" sh -c "modprobe --show-depends fs-erofs | grep -q '/ferofs.ko.*erofs=1'"
check "mount -t erofs loads ferofs" mounted -t erofs full.erofs under-test
check "which holds the mount" sh -c "[ '$(users)' -gt 0 ]"
check "and not the C driver" sh -c '! grep -qw ^erofs /proc/modules'
umount under-test
modprobe -r ferofs
rm /etc/modprobe.d/ferofs-as-erofs.conf
check "without the file it is the C driver again" mounted -t erofs full.erofs under-test
check "by itself" sh -c '! grep -qw ^ferofs /proc/modules'
umount under-test
insmod "$FEROFS_KO"
finish
