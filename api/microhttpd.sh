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
#
# Nothing on the host changes: apt works on a private state in a temporary
# directory, with the mirror that the host's own sources name.
set -eu

[ $# = 1 ] || { echo "usage: microhttpd.sh DIR" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
target=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT

say() { echo "libmicrohttpd: $*" >&2; }
fail() {
	say "$*"
	tail -n 5 "$work/log" >&2 2>/dev/null || true
	exit 1
}

# Debian's main archive and its suite, as this host gets them.
sources() {
	apt-get indextargets --format \
		'$(COMPONENT) $(CREATED_BY) $(RELEASE) $(REPO_URI)' |
		awk '$1 == "main" && $2 == "Packages" && $3 !~ /-/ &&
			$4 ~ /\/debian\/?$/ { print $4, $3; exit }'
}

fetch() {
	set -- $(sources)
	[ $# = 2 ] || fail "apt's sources name no Debian mirror"
	mkdir -p "$work/apt/state/lists/partial" \
		"$work/apt/cache/archives/partial" "$work/apt/parts"
	{
		echo "Types: deb-src"
		echo "URIs: $1"
		echo "Suites: $2"
		echo "Components: main"
		keyring=/usr/share/keyrings/debian-archive-keyring.gpg
		[ ! -e $keyring ] || echo "Signed-By: $keyring"
	} >"$work/apt/parts/ember.sources"
	private_apt -q update --error-on=any || fail "apt-get update failed"
	(cd "$work" && private_apt -q source libmicrohttpd) ||
		fail "cannot fetch the source package"
}

private_apt() {
	apt-get -o Dir::State="$work/apt/state" \
		-o Dir::State::status=/dev/null \
		-o Dir::Cache="$work/apt/cache" \
		-o Dir::Etc::SourceParts="$work/apt/parts" \
		-o Dir::Etc::SourceList=/dev/null \
		-o APT::Sandbox::User= \
		-o Acquire::Languages=none \
		-o Acquire::Retries=3 \
		-o APT::Update::Post-Invoke::=true \
		"$@" >>"$work/log" 2>&1
}

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
fetch
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
