#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lwip.sh DIR: builds the TCP/IP stack lwIP from Debian's source package into
# DIR, with the settings in vmm/lwip.
#
# lwIP is made to be compiled with the settings of the program it is part of;
# Debian's own library has those of a demonstration, with threads.
set -eu

[ $# = 1 ] || { echo "usage: lwip.sh DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$1")"
target=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
name=lwip
. "$here/../api/debian_source.sh"

# Everything a TCP server over Ethernet needs, and no more.
files="core/init core/def core/inet_chksum core/ip core/mem core/memp
	core/netif core/pbuf core/tcp core/tcp_in core/tcp_out core/timeouts
	core/ipv4/etharp core/ipv4/ip4 core/ipv4/ip4_addr netif/ethernet"

build() (
	cd "$work"/lwip-*/src || exit 1
	for file in $files; do
		gcc -std=gnu17 -Os -fPIE -ffunction-sections -fdata-sections \
			-Iinclude -I"$here/lwip" -c "$file.c" \
			-o "$work/$(basename "$file").o" >>"$work/log" 2>&1 ||
			exit 1
	done
	ar rcs "$work/liblwip.a" "$work"/*.o
)

say "building from Debian's source package (about 5 s)"
fetch_source lwip
build || fail "the build failed"
rm -rf "$target"
mkdir -p "$target/lib"
cp -r "$work"/lwip-*/src/include "$target/"
cp "$work/liblwip.a" "$target/lib/"
say "done"
