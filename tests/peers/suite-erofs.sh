#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# The tests that containerd has for its own erofs snapshotter, on ferofs as `erofs`, with ferofs as mkfs.erofs: its suite
# for snapshotters, each case one result, and fs-verity. What does not pass must not pass with the C driver and mkfs.erofs
# of erofs-utils either, which is asked of that alone; with ALL=yes of every case.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
. "$FEROFS_TESTS/peers/lib/suite.sh"
versions erofs-utils
grep containerd-containerd-dev suite/packages | sed 's/^/# /'
CASES=21
modprobe overlay
# Layers have fs-verity, and lie on a disk's filesystem.
verity_disk state.img 4G tmp >output 2>&1 || { fail "a disk with fs-verity" output; finish; }
mkdir bin
ln -s "$(command -v ferofs)" bin/mkfs.erofs

# asks TESTS: runs them in a mount table of their own, into the file cases.
asks() {
    TMPDIR=$WORK/tmp unshare --mount suite/erofs -test.root -test.v -test.parallel 1 -test.timeout 800s -test.run "$1" >cases 2>&1
}

own=$PATH
PATH=$WORK/bin:$PATH
asks .
results_of TestErofs >results
check "all $CASES cases have a result" [ "$(wc -l <results)" = $CASES ]
: >others
while read -r result case; do
    if [ "$result" = PASS ]; then
        pass "$case"
    else
        said TestErofs "$case" >"$case.log"
        echo "$case" >>others
    fi
done <results
check "layers have fs-verity" grep -q '^--- PASS: TestErofsFsverity ' cases
check "there is no other driver than ferofs" sh -c "! grep -q '^erofs ' /proc/modules"
check "nothing is left mounted" sh -c "! grep -F '$WORK/tmp/' /proc/self/mounts"
check "nobody uses the module" [ "$(users)" = 0 ]

# The judge.
PATH=$own
c_driver
if [ -n "${ALL:-}" ]; then asks .; else asks "^TestErofs\$/^($(paste -s -d '|' others))\$"; fi
results_of TestErofs | sed -n 's/^FAIL //p' | sort >judged
while read -r case; do
    if grep -qx "$case" judged; then
        pass "$case (as with the C driver)"
    else
        fail "$case" "$case.log"
    fi
done <others
if [ -n "${ALL:-}" ]; then check "the same cases fail" sh -c 'sort others | diff - judged'; fi
as_erofs
umount tmp suite
finish
