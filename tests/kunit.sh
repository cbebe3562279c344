#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debug
# timeout: 300
#
# The module's KUnit suites, which run when it is loaded into a kernel that has KUnit. Called by tests/run.

mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
insmod "$FEROFS_KO" || exit 1

found=0
for suite in /sys/kernel/debug/kunit/ferofs*/results; do
    [ -e "$suite" ] || continue
    name=$(basename "$(dirname "$suite")")
    found=1
    # Below the line of the suite itself, one line for each test.
    sed -n "s/^    \(\(not \)*ok\) [0-9]* \(.*\)/\1 - kunit: $name: \3/p" "$suite"
    # A failed test says why.
    if grep -q '^ *not ok' "$suite"; then sed 's/^/# /' "$suite"; fi
done
[ "$found" = 1 ] || echo "not ok - kunit: expected at least one suite in the module"
rmmod ferofs
