#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: none
#
# Ten thousand mutated images. `make test` runs the first of them (mounts.sh) and leaves this out; by hand:
#   tests/vm/run --kernel debug --timeout 7200 tests/fuzz/many.sh

IMAGES=${IMAGES:-10000} exec sh "$FEROFS_TESTS/fuzz/mounts.sh"
