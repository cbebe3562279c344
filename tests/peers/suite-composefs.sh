#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 600
#
# The tests in composefs's source, asked of Debian's programs, on ferofs as `erofs`, on a disk with fs-verity:
# integration.sh mounts images of /usr/bin and of a random tree, and compares what it sees; the others mount little. `ferofs
# check` is fsck.erofs. Left out are test-lcfs, a program of C, and test-random-fuse.sh, which mounts nothing in the kernel.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
. "$FEROFS_TESTS/peers/lib/suite.sh"
versions composefs
modprobe overlay
verity_disk state.img 2G disk >output 2>&1 || { fail "a disk with fs-verity" output; finish; }
mkdir bin programs disk/tmp disk/composefs
for name in mkcomposefs mount.composefs composefs-info; do ln -s "$(command -v $name)" programs/; done
export TMPDIR="$WORK/disk/tmp"
TESTS=$WORK/suite/composefs/tests
# `check` is what fsck.erofs does, and each call is a line.
cat >bin/fsck.erofs <<END
#!/bin/sh
echo "\$@" >>$WORK/checked
exec ferofs check "\$@"
END
chmod +x bin/fsck.erofs
PATH=$WORK/bin:$PATH

# own NAME ARGUMENT...: a script of the tests; what it asks of the machine is said.
own() {
    name=$1
    shift
    check "$name" timeout 400 bash "$TESTS/$name" "$@"
    sed -n 's/^Test options: /# /p; s/^Test \(.*: OK\)/# \1/p' output
}

own test-units.sh programs
own test-dump-filtered.sh programs "$TESTS/assets"
own test-should-fail.sh programs "$TESTS"/assets/should-fail-*.dump

# What test-checksums.sh does, but for composefs-dump, which no package has: images are those that composefs expects. For a file
# of more than 8000 TiB composefs 1.0.8 has chunks where no driver looks for them, and other inodes where it does; `check` says
# so. Dumps of whole systems (cs9, f36) take minutes.
for dump in "$TESTS"/assets/*.dump "$TESTS"/assets/config*.dump.gz; do
    name=$(basename "$dump")
    case $name in should-fail-* | *bigfile*) continue ;; esac
    version=$(cat "$dump.version" 2>/dev/null)
    # shellcheck disable=SC2086 # two words, or none
    zcat -f "$dump" | mkcomposefs ${version:+--min-version=$version --max-version=$version} --from-file - asset.cfs
    check "$name is the image that is expected" [ "$(sha256sum <asset.cfs | cut -d ' ' -f 1)" = "$(cat "$dump.sha256")" ]
    check "in which ferofs finds no mistake ($name)" fsck.erofs asset.cfs
done

# For /usr/bin a smaller one, of what the script needs: there are programs of 100 MB in it.
mkdir disk/usr
find /usr/bin -maxdepth 1 \( -size -2500k -o -name 'python3*' \) ! -type d -exec cp -a -t disk/usr {} +
integrates() {
    cd "$TESTS/.." && mount --bind "$WORK/disk/usr" /usr/bin && cfsroot=$WORK/disk/composefs bash tests/integration.sh
    integrates_status=$?
    umount /usr/bin
    cd "$WORK" && return "$integrates_status"
}
check "integration.sh" integrates
cp output integration.log
# The tree is another one each time.
sed -n "s/^Using seed/# &/p" integration.log
check "two trees were compared" [ "$(grep -c 'dumpdir .* mnt$' integration.log)" = 2 ]
check "fs-verity was there" grep -q 'fsverity is supported' integration.log
check "there is no other driver than ferofs" sh -c "! grep -q '^erofs ' /proc/modules"
check "images were checked by ferofs" [ "$(wc -l <checked)" -ge 10 ]
check "nothing is left mounted" sh -c "! grep -F '$WORK/disk/composefs/' /proc/self/mounts"
check "nobody uses the module" [ "$(users)" = 0 ]
umount disk suite
finish
