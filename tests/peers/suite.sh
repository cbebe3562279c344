#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# containerd's own suite for snapshotters, asked of ferofs' server: each case one result.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
. "$FEROFS_TESTS/peers/lib/suite.sh"
# The program and whether it is to be ferofs': SERVER=DIRECTORY/overlayfs is containerd's own, which shows that a case is
# one that a server can pass.
SERVER=${SERVER:-containerd-ferofs-grpc}
CASES=21
modprobe overlay
grep containerd-containerd-dev suite/packages | sed 's/^/# /'

# asks: runs the suite in a mount table of its own.
asks() {
    FEROFS_SNAPSHOTTER=$SERVER TMPDIR=$WORK/tmp unshare --mount \
        suite/suite -test.root -test.v -test.parallel 1 -test.timeout 800s >cases 2>server.log
}

asks
status=$?
results_of TestSnapshotter >results
while read -r result case; do
    if [ "$result" = PASS ]; then
        pass "$case"
    else
        { said TestSnapshotter "$case"; tail -n 5 server.log; } >"$case.log"
        fail "$case ($result)" "$case.log"
    fi
done <results
check "all $CASES cases have a result" [ "$(wc -l <results)" = $CASES ]
if [ $status -ne 0 ] && ! grep -q '^FAIL' results; then
    tail -n 10 cases server.log >output
    fail "the suite ends well (status $status)" output
fi
check "nothing is left mounted" sh -c "! grep -F '$WORK/tmp' /proc/self/mounts"
check "nobody uses the module" [ "$(users)" = 0 ]
umount suite
finish
