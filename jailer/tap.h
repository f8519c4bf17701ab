/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps of a jail, as the command line asks for them: NAME, then any of
 * `addr=ADDRESS/PREFIX` (several times), `mac=` and `mtu=`, behind commas.
 */
#ifndef EMBER_JAILER_TAP_H
#define EMBER_JAILER_TAP_H

#include "vmm/arguments.h"
#include "vmm/error.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAP_ADDRESSES_MAX 8
#define TAP_MAC_LEN 6

/* Of the host's end of the line, as is the MAC. */
struct tap_address {
	int family;	   /* AF_INET, AF_INET6 */
	uint8_t bytes[16]; /* the first 4, or all */
	unsigned int prefix;
};

struct tap_spec {
	char name[IFNAMSIZ];
	bool has_mac;
	uint8_t mac[TAP_MAC_LEN];
	uint32_t mtu; /* 0: the kernel's default */
	struct tap_address addresses[TAP_ADDRESSES_MAX];
	size_t address_count;
};

/* -EINVAL with a sentence that quotes @text and the part that is wrong. */
int tap_spec_parse(struct tap_spec *ret_spec, const char *text,
		   struct error *err) must_check;

/* All of them, into as many specs; no two of one name. */
int tap_specs_parse(struct tap_spec *specs, const struct argument_list *list,
		    struct error *err) must_check;

/* Takes away the tap of this name again, of which this process's user is the
 * owner. Path of the tun device as it is seen here. */
void tap_remove(const char *name);

#endif
