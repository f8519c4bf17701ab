/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session tokens: nothing is stored about them. A token is its own expiry,
 * encrypted and authenticated with a key that only this process knows, so no
 * token outlives it: base64 of a 12-byte IV, the 8-byte expiry and the 16-byte
 * tag of AES-256-GCM, with the microVM's id as additional data. Thread: loop.
 */
#ifndef EMBER_MMDS_TOKEN_H
#define EMBER_MMDS_TOKEN_H

#include "vmm/util.h"

#include <stdbool.h>

#define MMDS_TOKEN_LEN 48
#define MMDS_TOKEN_TTL_MIN 1
#define MMDS_TOKEN_TTL_MAX 21600

struct mmds_tokens {
	char id[80];
	bool keyed; /* the key is drawn when the first token is asked for */
	uint8_t key[32];
};

void mmds_tokens_init(struct mmds_tokens *tokens, const char *id);

/* A token that is good for @ttl seconds, with its terminating NUL. -errno when
 * there is no randomness. */
int mmds_token_make(struct mmds_tokens *tokens, uint32_t ttl,
		    char ret_token[MMDS_TOKEN_LEN + 1]) must_check;

/* Was it made here, and is it still good? */
bool mmds_token_valid(const struct mmds_tokens *tokens, const char *token);

#endif
