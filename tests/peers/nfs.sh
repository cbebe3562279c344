#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 600
#
# The kernel's NFS server exports a mount of ferofs, over loopback, by v3 and by v4.2: what a client sees is what GNU tar
# extracts, with caches dropped and over a restart of the server; and handles of what is gone are stale.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions nfs-kernel-server nfs-common
sample
ferofs build --quiet -o index.erofs "$SHARED/sample.tar" >output 2>&1 || fail "an index" output
mounted -t ferofs index.erofs export --option "device=$SHARED/sample.tar" >output 2>&1 || fail "mounts" output
mkdir v3 v4

# A client of v4 begins at a root, which is /data here: this machine's own, an overlayfs, cannot be exported.
cat >/etc/nfs.conf <<END
[general]
pipefs-directory=/run/rpc_pipefs
[nfsd]
threads=4
grace-time=10
lease-time=10
END

ip link set lo up
modprobe -a nfsd nfs nfsv3 nfsv4
mkdir -p /run/rpc_pipefs /var/lib/nfs/nfsdcld
mount -t rpc_pipefs sunrpc /run/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
rpcbind
nfsdcld

# serve: starts the server. Its time of grace ends now, for nobody has locks; without old clients there is none.
serve() {
    cat >/etc/exports <<END
/data 127.0.0.1(ro,fsid=0,no_subtree_check)
$WORK/export 127.0.0.1(ro,no_subtree_check,no_root_squash)
END
    exportfs -ra && rpc.nfsd && rpc.mountd &&
        { grep -q Y /proc/fs/nfsd/v4_end_grace || echo Y >/proc/fs/nfsd/v4_end_grace; }
}

rest() {
    # shellcheck disable=SC2046 # numbers
    rpc.nfsd 0 && kill $(pidof rpc.mountd) && exportfs -ua && exportfs -f
}

# on NAME VERSION: mounts the export as a client.
on() {
    case $2 in
    3) mount -t nfs -o vers=3,nolock,soft,timeo=50,retrans=2 "127.0.0.1:$WORK/export" "$1" ;;
    *) mount -t nfs -o "vers=$2,soft,timeo=50,retrans=2" "127.0.0.1:${WORK#/data}/export" "$1" ;;
    esac
}

# shows NAME DIR [manifest's arguments]: passes if that is what GNU tar extracts.
shows() {
    shows_name=$1
    shows_dir=$2
    shift 2
    ferofs-testkit manifest "$@" "$shows_dir" >found.manifest
    same "$shows_name" "$SHARED/sample.manifest" found.manifest
}

check "the server exports it without an fsid" serve
check "a client mounts it by v3" on v3 3
check "and by v4.2" on v4 4.2
[ "$FAILED" = 0 ] || finish
for client in v3 v4; do
    shows "$client: a walk and reads" $client
    drop
    shows "$client: with caches dropped, mapped" $client --via mmap
    check "$client: is read-only" sh -c "! touch $client/new 2>/dev/null"
    check "$client: random reads" ferofs-testkit readcheck $client "$SHARED/sample" --ops 60 --threads 2 --only read,pread,readv,mmap,sendfile
done

# Handles outlive the server, and the caches of what they lead to.
exec 3<v3/sizes/65537 4<v4/sizes/65537
check "the server is stopped" rest
check "and starts again" serve
drop
check "v3: an open file is read on" sh -c "cmp - $SHARED/sample/sizes/65537 <&3"
check "v4: an open file is read on" sh -c "cmp - $SHARED/sample/sizes/65537 <&4"
exec 3<&- 4<&-
for client in v3 v4; do shows "$client: all is there after the restart" $client; done

# let_go: the server exports nothing any more. What clients of v4 have open or were delegated it would keep open.
let_go() {
    exportfs -ua && exportfs -f && echo "$WORK/export" >/proc/fs/nfsd/unlock_filesystem
}

# The same image mounted again is the same to a client; another is not.
exec 3<v3/sizes/65537
check "the server lets go" let_go
check "so it is unmounted" within 20 umount export
for client in v3 v4; do refuses "$client: what is not exported any more is stale" "Stale file handle" ls $client/sizes; done
mounted -t ferofs index.erofs export --option "device=$SHARED/sample.tar" >output 2>&1 || fail "mounts again" output
check "it is mounted and exported again" exportfs -ra
drop
check "v3: the file that was open all the time is read" sh -c "cmp - $SHARED/sample/sizes/65537 <&3"
exec 3<&-
for client in v3 v4; do shows "$client: and everything is there" $client; done

exec 3<v3/sizes/65537
check "the server lets go again" let_go
check "and it is unmounted again" within 20 umount export
mkdir other
echo other >other/file
ferofs build --quiet -o other.erofs other >output 2>&1 || fail "another image" output
mounted -t ferofs other.erofs export >output 2>&1 || fail "another image is mounted" output
exportfs -ra
drop
refuses "v3: an open file of the image that was there is stale" "Stale file handle" sh -c "cat <&3"
exec 3<&-
refuses "v4: a directory of it is, too" "Stale file handle" ls v4/sizes
for client in v3 v4; do umount -f $client 2>/dev/null || umount -l $client; done
check "v3: the other image is there for who mounts it" on v3 3
check "v4: too" on v4 4.2
check "and has what is in it" grep -qx other v3/file v4/file
umount v3 v4
check "the server is stopped at last" rest
# shellcheck disable=SC2046
kill $(pidof rpcbind nfsdcld)
check "and ferofs unmounted" within 20 umount export
check "nobody uses it" [ "$(users)" = 0 ]
finish
