#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# microhttpd.sh DIR: builds libmicrohttpd from Debian's source package into DIR.
#
# Debian's own library cannot be linked into a static program (its TLS half
# needs p11-kit, which has no static form), and loading it with all it depends
# on costs more time than the monitor's whole start. This one leaves out TLS and
# what else a Unix socket server does not need.
#
# Its sends are renamed to api_wire_*, so that what it puts on the wire passes
# through api/wire.c, which see.
set -eu

[ $# = 1 ] || { echo "usage: microhttpd.sh DIR" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
target=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT

name=libmicrohttpd
. "$(dirname "$0")/debian_source.sh"

build() (
	cd "$work"/libmicrohttpd-*/ || exit 1
	./configure --prefix="$work/out" --disable-shared --enable-static \
		--disable-https --disable-doc --disable-examples \
		--disable-tools --disable-curl --disable-postprocessor \
		--disable-dauth --disable-bauth --disable-sendfile \
		--disable-httpupgrade --disable-messages --disable-nls \
		CFLAGS="-Os -fPIE -ffunction-sections -fdata-sections" \
		>>"$work/log" 2>&1 &&
		make -C src/include install >>"$work/log" 2>&1 &&
		make -C src/microhttpd install >>"$work/log" 2>&1
)

say "building from Debian's source package (about 20 s)"
fetch_source libmicrohttpd
build || fail "the build failed"
lib=$work/out/lib/libmicrohttpd.a
objcopy --redefine-sym send=api_wire_send \
	--redefine-sym sendmsg=api_wire_sendmsg \
	--redefine-sym writev=api_wire_writev "$lib"
rm -rf "$target"
mkdir -p "$target/lib"
cp -r "$work/out/include" "$target/"
cp "$lib" "$target/lib/"
say "done"
