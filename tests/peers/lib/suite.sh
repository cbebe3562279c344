# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the tests share that run suites of others: the disk that tests/vm/make-suite has made is mounted at suite. Sourced
# after peers.sh.

mkdir suite tmp
mount -o ro /dev/disk/by-id/virtio-suite suite >output 2>&1 || { fail "the disk with the suites" output; finish; }

# results_of TEST: of what `-test.v` printed into the file cases, a line `PASS CASE` for each case of a test.
results_of() {
    # Lines `    --- PASS: TestSnapshotter/Basic (0.10s)`.
    sed -n "s|^ *--- \([A-Z]*\): $1/\([^ ]*\).*|\1 \2|p" cases
}

# said TEST CASE: what the case said.
said() {
    sed -n "/^=== \(RUN\|CONT\|NAME\) *$1\/$2\$/,/^=== \(RUN\|CONT\|NAME\) *$1\/[^ ]*\$/p" cases |
        grep -v -e '^===' -e '--- ' -e ' helpers.go:'
}
