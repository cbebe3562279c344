#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# AppArmor: what a profile allows to map and to execute is the same as on ext4, however a file is stored, and
# whether it is mapped executable at once or made so later.

. "$FEROFS_TESTS/lib.sh"

[ -d /sys/kernel/security/apparmor ] || mount -t securityfs securityfs /sys/kernel/security
check "AppArmor is on" test -d /sys/kernel/security/apparmor
code_files
code_trees

# All may read the files; what they may map executable differs. The files are never opened without a profile, for what
# an unconfined process opened may be used in any way.
cat >profiles <<'END'
profile ferofs-r {
  /** rw,
  /ferofs/bin/* rm,
}
profile ferofs-rm {
  /** rwmix,
  change_profile,
}
END
check "the profiles are loaded" apparmor_parser --skip-cache --replace profiles

# with PROFILE COMMAND...
with() {
    with_profile=$1
    shift
    ferofs-testkit enter --exec "exec $with_profile" "$@"
}

# answers TREE PROFILE: the ways to the code of its files with the profile, for files that were opened with it, before
# the change to it, and by a program before; and what becomes of a program. An empty name is no profile.
answers() {
    cd "$1" || return
    if [ -z "$2" ]; then
        ferofs-testkit rights one several tail small
    else
        with "$2" ferofs-testkit rights one several tail small
        echo "opened before:"
        with ferofs-rm ferofs-testkit rights --enter "changeprofile $2" one several
        for file in one several; do
            echo "inherited, $file:"
            # shellcheck disable=SC2016 # the inner shell's $1 and $2
            with ferofs-rm sh -c 'exec ferofs-testkit enter --exec "exec $1" ferofs-testkit rights --stdin <"$2"' sh "$2" $file
        done
        with ferofs-rm ferofs-testkit enter --exec "exec $2" ./busybox true
        echo "program: status $?"
    fi
    cd "$WORK" || return
}

for case in none r rm; do
    case $case in
    none) profile='' what="without a profile" ;;
    r) profile=ferofs-r what="with a profile to read" ;;
    rm) profile=ferofs-rm what="with a profile to read and to map executable" ;;
    esac
    for tree in $CODE_TREES; do answers "$tree" "$profile" >"$tree.$case" 2>&1; done
    like_ext4 "$what" $case
done

# What the comparisons mean: on ext4 the profile to read forbids each way that the others allow. For files that were
# opened before not all of them, because the kernel remembers what another profile allowed.
sed '/^opened before/,$d' ext4.r >own.r
check "without a profile all is allowed on ext4" test "$(grep -c ': 42$' ext4.none)" = "$(grep -vc ': read: 1$' ext4.none)"
check "with a profile to read nothing but that is" sh -c '! grep ": 42\$\|: read: E" own.r && grep ": EACCES\$" own.r'
check "with a profile to map executable all is" sh -c '! grep ": E" ext4.rm && grep "program: status 0" ext4.rm'

finish
