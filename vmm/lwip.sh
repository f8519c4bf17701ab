#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lwip.sh DIR COMPILER [FLAG...]: builds the TCP/IP stack lwIP from Debian's
# source package into DIR, with the settings in vmm/lwip and those flags. The
# source stays beside DIR for the next one.
#
# lwIP is made to be compiled with the settings of the program it is part of;
# Debian's own library has those of a demonstration, with threads.
set -eu

[ $# -ge 2 ] || { echo "usage: lwip.sh DIR COMPILER [FLAG...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$1")"
parent=$(cd "$(dirname "$1")" && pwd)
target=$parent/$(basename "$1")
source=$parent/lwip-source
compiler=$2
shift 2
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
name=lwip
. "$here/../api/debian_source.sh"

# Everything a TCP server over Ethernet needs, and no more.
files="core/init core/def core/inet_chksum core/ip core/mem core/memp
	core/netif core/pbuf core/tcp core/tcp_in core/tcp_out core/timeouts
	core/ipv4/etharp core/ipv4/ip4 core/ipv4/ip4_addr netif/ethernet"

build() (
	cd "$source/src" || exit 1
	for file in $files; do
		"$compiler" -std=gnu17 "$@" -Iinclude -I"$here/lwip" \
			-c "$file.c" -o "$work/$(basename "$file").o" \
			>>"$work/log" 2>&1 || exit 1
	done
	ar rcs "$work/liblwip.a" "$work"/*.o
)

if [ ! -d "$source" ]; then
	say "fetching Debian's source package"
	fetch_source lwip
	# Of two that come here at once the second finds it there.
	mv -T "$work"/lwip-* "$source" 2>/dev/null || [ -d "$source" ]
fi
say "building $(basename "$target")"
build "$@" || fail "the build failed"
rm -rf "$target"
mkdir -p "$target/lib"
cp -r "$source/src/include" "$target/"
cp "$work/liblwip.a" "$target/lib/"
say "done"
