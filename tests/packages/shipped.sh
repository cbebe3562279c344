#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Where install.sh has been: the metadata that was made there, put where Arch's headers and Ubuntu's linux-lib-rust have
# theirs, is used as it is. The headers around it are Debian's. Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

new=$(basename "$(dirname "$(echo /lib/modules/7.3.*+deb13-amd64/build)")")
made=/var/lib/ferofs-dkms/$new/tree
rustc=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$made/.config")
version=$(dpkg-query -W -f '${Version}' ferofs-dkms)

# headers DIRECTORY: the kernel's, without metadata.
headers() {
    local from link
    from=$(realpath "/lib/modules/$new/build")
    mkdir -p "$1"
    cp -a "$from/." "$1/"
    rm -rf "$1/rust" "$1/scripts"
    cp -a -L "$from/scripts" "$1/scripts"
    cp "$made/scripts/target.json" "$1/scripts/"
    find "$1" -maxdepth 1 -type l -printf '%f\n' | while read -r link; do ln -sfn "$(realpath "$from/$link")" "$1/$link"; done
    sed -i "s,^KBUILD_OUTPUT=.*,KBUILD_OUTPUT=$1," "$1/Makefile"
}

# hello RELEASE [VARIABLE...]: the module of install.sh, with the metadata.
hello() {
    local release=$1
    shift
    rm -rf /var/tmp/hello-shipped
    mkdir /var/tmp/hello-shipped
    cp /var/tmp/hello/{hello.rs,Kbuild} /var/tmp/hello-shipped/
    make -C "$(kernel-rust-metadata tree "$release")" M=/var/tmp/hello-shipped "$@" modules &&
        modinfo -F vermagic /var/tmp/hello-shipped/hello.ko
}

# used RELEASE HEADERS: the metadata in the headers is taken, and none is made.
used() {
    kernel-rust-metadata check "$1" && kernel-rust-metadata make "$1" && test ! -e "/var/lib/ferofs-dkms/$1" &&
        test "$(realpath "$(kernel-rust-metadata tree "$1")")" = "$(realpath "$2")"
}

# refused RELEASE TEXT
refused() {
    ! kernel-rust-metadata check "$1" >/var/tmp/said 2>&1 && cat /var/tmp/said && grep -qF -- "$2" /var/tmp/said
}

# Arch: one directory, with all of it in it.
arch=7.3.0-arch1-1
at=/usr/lib/modules/$arch/build
headers $at
check "headers without metadata, and of no package, are refused" refused $arch "lack the Rust metadata"
install -D -m 644 -t $at/rust "$made"/rust/*.rmeta
install -D -t $at/rust "$made"/rust/*.so
check "Arch's headers are used as they are" used $arch $at
check "a module builds with them" hello $arch
check "dkms builds ferofs with them" dkms build -m ferofs -v "$version" -k $arch
check "and there is no other metadata" test ! -e /var/lib/ferofs-dkms/$arch
dkms unbuild -m ferofs -v "$version" -k $arch >/dev/null 2>&1
sed -i "s/${rustc%% (*}/rustc 1.00.0/" $at/rust/libcore.rmeta
check "metadata of another compiler is refused" refused $arch "the package with the metadata is not of this kernel"

# Ubuntu: the metadata in a directory of its own, to which the headers have a link; the compiler under a name of its own.
ubuntu=7.3.0-12-generic
at=/usr/src/linux-headers-$ubuntu
headers $at
mkdir -p /usr/lib/modules/$ubuntu
ln -s $at /usr/lib/modules/$ubuntu/build
ln -s ../linux-lib-rust-$ubuntu/rust $at/rust
check "without Ubuntu's package with the metadata it is named" refused $ubuntu "apt install linux-lib-rust-$ubuntu"
install -D -m 644 -t /usr/src/linux-lib-rust-$ubuntu/rust "$made"/rust/*.rmeta
install -D -t /usr/src/linux-lib-rust-$ubuntu/rust "$made"/rust/*.so
check "Ubuntu's metadata is used as it is" used $ubuntu $at
check "a module builds with it" hello $ubuntu
number=${rustc#rustc }
number=${number%% *}
name=rustc-${number%.*}
ln -s /usr/bin/rustc "/usr/local/bin/$name"
printf '#!/bin/sh\necho "rustc 1.97.1 (another one)"\n' >/usr/local/bin/rustc
chmod +x /usr/local/bin/rustc
hash -r
check "the compiler is found under its other name" test "$(kernel-rust-metadata rustc $ubuntu)" = "$name"
check "and builds a module" hello $ubuntu RUSTC="$name"
check "and ferofs, by dkms" dkms build -m ferofs -v "$version" -k $ubuntu
dkms unbuild -m ferofs -v "$version" -k $ubuntu >/dev/null 2>&1
rm "/usr/local/bin/rustc" "/usr/local/bin/$name"

rm -rf /usr/lib/modules/{$arch,$ubuntu} /usr/src/linux-{headers,lib-rust}-$ubuntu /var/tmp/hello-shipped
check "nothing of it is left" bash -c "! dkms status -m ferofs | grep -e $arch -e $ubuntu"
