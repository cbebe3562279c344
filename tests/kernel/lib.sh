# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=bash
# shellcheck disable=SC2030,SC2031 # what make_once sets is for what it calls
#
# What the scripts in tests/kernel and tests/vm share: where the cache is, how a thing in it is made
# once, how progress is shown. Sourced, never run.
#
# A thing in the cache is a directory named NAME-HASH, where HASH is of everything it is made from. It
# is made under a lock as NAME-HASH.new and renamed when complete, so an interrupted run leaves nothing
# that looks complete, and of two runs at once one makes it and the other waits. The lock's file is touched
# when the thing is used.

set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cache=${FEROFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferofs}
program=$(basename "$0")

die() {
    echo "$program: $*" >&2
    exit 1
}

case $checkout in
*[[:space:]:,]*) die "the checkout's path may have no space, comma or colon (make cannot build there): $checkout" ;;
esac
case $cache in
*[[:space:]:,]*) die "FEROFS_CACHE may have no space, comma or colon: $cache" ;;
/*) ;;
*) die "FEROFS_CACHE must be an absolute path: $cache" ;;
esac
mkdir -p "$cache"/{lock,log,tmp} || die "cannot write to $cache; another place: FEROFS_CACHE=DIRECTORY"
cache=$(cd "$cache" && pwd -P)

# hash_of FILE-OR-WORD...: a short hash of the words, and of the contents of those that are files.
hash_of() {
    local word
    for word; do
        if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi
    done | sha256sum | cut -c 1-12
}

# say TEXT: tells the user, also while output goes to a log.
say() {
    printf '%s: %s\n' "$program" "$*" >&"${terminal:-2}"
}

# make_once NAME-HASH FUNCTION: unless it is there, makes the directory $cache/NAME-HASH by calling
# FUNCTION DIRECTORY. Output goes to a log, whose end is shown if it fails.
make_once() {
    local name=$1 function=$2
    (
        exec 9>>"$cache/lock/$name"
        # Shared is the lock of those who only use it.
        if flock --shared --nonblock 9 && used "$name"; then exit; fi
        flock --unlock 9
        if ! flock --nonblock 9; then
            say "waiting for another run that makes $name"
            flock 9
        fi
        if used "$name"; then exit; fi
        remove_tree "$cache/$name.new"
        mkdir "$cache/$name.new"
        log=$cache/log/$name.log
        exec {terminal}>&2 >"$log" 2>&1
        export terminal
        trap 'made $?' EXIT
        show_progress &
        progress=$!
        set -x
        "$function" "$cache/$name.new"
        set +x
        mv -T "$cache/$name.new" "$cache/$name"
        remove_unused "${name%-*}"
    ) 9>&-
}

# used NAME-HASH: whether the directory is there; if so, it counts as used now. Called with its lock held.
used() {
    [ -d "$cache/$1" ] && touch "$cache/lock/$1"
}

# remove_unused NAME: removes what has that name, whatever its hash, and has not been used for some time: two
# hours if it is quickly made again, else three days.
remove_unused() {
    local name minutes=4320
    case $1 in boot-*) minutes=120 ;; esac
    find "$cache/lock" -name "$1-????????????" -mmin "+$minutes" -printf '%f\n' | while read -r name; do
        (
            # If not, another run makes it, or looks for it just now.
            exec 9<"$cache/lock/$name"
            flock --nonblock 9 || exit 0
            [ -n "$(find "$cache/lock/$name" -mmin "+$minutes")" ] || exit 0
            if [ -e "$cache/$name" ]; then mv -T "$cache/$name" "$cache/$name.old"; fi
            remove_tree "$cache/$name.old"
            remove_tree "$cache/$name.new"
        )
    done
}

# made STATUS: the end of make_once, by success, failure or interruption.
made() {
    { set +x; } 2>/dev/null
    kill "$progress" 2>/dev/null || :
    if [ -t "$terminal" ]; then printf '\r\033[K' >&"$terminal"; fi
    if [ "$1" -ne 0 ]; then
        grep -v '^+' "$log" | tail -n 15 | sed 's/^/    /' >&"$terminal" || :
        say "failed; the whole log is $log"
    fi
}

# On a terminal: one line with what is being done, for how long, and the newest line of the log.
show_progress() {
    { set +x; } 2>/dev/null
    exec 9>&-
    local columns newest
    if [ ! -t "$terminal" ]; then
        # A line a minute, so that nobody takes it for dead.
        while sleep 60; do
            newest=$(tail -c 2000 "$log" | tr -d '\r' | grep -av '^+' | tail -n 1 | tr -cd '[:print:]' | cut -c 1-80 || :)
            say "  still at it ($((SECONDS / 60)) min): $newest"
        done
    fi
    while sleep 1; do
        columns=$(tput cols 2>/dev/null || echo 80)
        newest=$(tail -c 2000 "$log" | tr -d '\r' | grep -av '^+' | tail -n 1 | tr -cd '[:print:]' || :)
        printf '\r\033[K%s' "$(printf '  %d:%02d %s' $((SECONDS / 60)) $((SECONDS % 60)) "$newest" |
            cut -c "1-$((columns - 1))")" >&"$terminal"
    done
}

# remove_tree DIRECTORY: removes it, also what belongs to the users of a user namespace.
remove_tree() {
    [ -e "$1" ] || return 0
    # What is all the caller's takes no more rights than the caller's.
    if [ -z "$(find "$1" -not -user "$(id -u)" -print -quit 2>&1)" ] && rm -rf --one-file-system "$1" 2>/dev/null; then return; fi
    as_root rm -rf --one-file-system "$1"
}

# as_root COMMAND...: runs it as root with a private mount table: really root, or in a user namespace
# where the caller is root and the caller's subordinate ids are the other users.
as_root() {
    need_namespaces
    if [ "$(id -u)" = 0 ]; then
        unshare --mount -- "$@"
    else
        unshare --user --map-auto --map-root-user --mount -- "$@"
    fi
}

need_namespaces() {
    local said
    [ "$(id -u)" = 0 ] && return
    # First what no package can change.
    said=$(unshare --user true 2>&1) ||
        die "this system lets $(id -un) make no user namespace ($said); run as root. In a chroot or a container that is the only way; elsewhere it may be allowed by sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0"
    command -v newuidmap >/dev/null || host_packages uidmap
    grep -q "^\($(id -un)\|$(id -u)\):" /etc/subuid 2>/dev/null ||
        die "no subordinate user ids for $(id -un); as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
    said=$(unshare --user --map-auto --map-root-user --mount true 2>&1) ||
        die "this system lets $(id -un) make no user namespace with subordinate ids ($said); run as root"
}

# host_packages PACKAGE...: installs what is missing on this machine itself.
host_packages() {
    local sudo=() missing=() package
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        die "needs ${missing[*]}; this is not Debian or a relative of it: install them with your distribution's tool"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "needs ${missing[*]}; as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]} on this machine${sudo:+ with sudo}"
    { "${sudo[@]}" apt-get install -qq --no-install-recommends "${missing[@]}" ||
        { "${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -qq --no-install-recommends "${missing[@]}"; }; } >&2 ||
        die "could not install ${missing[*]}; try: sudo apt-get install ${missing[*]}"
}

# mirror: where this machine gets Debian from, by its own apt configuration.
mirror() {
    local found=
    if [ -n "${FEROFS_MIRROR:-}" ]; then
        echo "$FEROFS_MIRROR"
        return
    fi
    if command -v apt-get >/dev/null; then
        # shellcheck disable=SC2016 # $(REPO_URI) is for apt-get
        found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u |
            grep -E '/debian/?$' | head -n 1 || :)
    fi
    echo "${found:-http://deb.debian.org/debian/}"
}

# debian TARGET VARIANT PACKAGE...: makes a Debian 13 system with packages (backports where NAME/backports
# is asked for) as the directory TARGET, or as a tar if TARGET ends in .tar.
debian() {
    local target=$1 variant=$2 url format=directory options=() line
    shift 2
    host_packages mmdebstrap debian-archive-keyring
    url=$(mirror)
    case $target in *.tar) format=tar ;; esac
    # This machine's way to its mirror (a proxy, say) is apt's in the new system, too.
    while read -r line; do
        options+=(--aptopt="$line")
    done < <(apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::(.*::)?Proxy|Check-)[^ ]* ".+";$' || :)
    as_root mmdebstrap --mode=root --variant="$variant" --format=$format --skip=check/empty \
        --include="$(IFS=,; echo "$*")" "${options[@]}" \
        trixie "$target" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url trixie main" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url trixie-backports main"
}
