/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_token.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/gcm.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define NS_PER_S UINT64_C(1000000000)

struct sealed {
	uint8_t iv[GCM_IV_SIZE];
	uint8_t expiry[sizeof(uint64_t)]; /* encrypted monotonic_ns() */
	uint8_t tag[GCM_DIGEST_SIZE];
};

_Static_assert(sizeof(struct sealed) == MMDS_TOKEN_LEN / 4 * 3,
	       "no padding in base64");

void mmds_tokens_init(struct mmds_tokens *tokens, const char *id)
{
	*tokens = (struct mmds_tokens){0};
	snprintf(tokens->id, sizeof(tokens->id), "microvmid=%s", id);
}

static void begin(struct gcm_aes256_ctx *ctx, const struct mmds_tokens *tokens,
		  const struct sealed *sealed)
{
	gcm_aes256_set_key(ctx, tokens->key);
	gcm_aes256_set_iv(ctx, sizeof(sealed->iv), sealed->iv);
	gcm_aes256_update(ctx, strlen(tokens->id), (const uint8_t *)tokens->id);
}

static int draw(void *buf, size_t len)
{
	ssize_t n = getrandom(buf, len, GRND_NONBLOCK);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EAGAIN;
}

int mmds_token_make(struct mmds_tokens *tokens, uint32_t ttl,
		    char ret_token[MMDS_TOKEN_LEN + 1])
{
	uint64_t expiry = monotonic_ns() + ttl * NS_PER_S;
	struct gcm_aes256_ctx ctx;
	struct sealed sealed;
	int ret = 0;

	if (!tokens->keyed)
		ret = draw(tokens->key, sizeof(tokens->key));
	if (!ret)
		ret = draw(sealed.iv, sizeof(sealed.iv));
	if (ret)
		return ret;
	tokens->keyed = true;
	begin(&ctx, tokens, &sealed);
	gcm_aes256_encrypt(&ctx, sizeof(expiry), sealed.expiry,
			   (const uint8_t *)&expiry);
	gcm_aes256_digest(&ctx, sizeof(sealed.tag), sealed.tag);
	base64_encode_raw(ret_token, sizeof(sealed), (const uint8_t *)&sealed);
	ret_token[MMDS_TOKEN_LEN] = '\0';
	return 0;
}

static bool decode(const char *token, struct sealed *ret_sealed)
{
	uint8_t raw[BASE64_DECODE_LENGTH(MMDS_TOKEN_LEN)];
	struct base64_decode_ctx ctx;
	size_t len = sizeof(raw);

	if (strlen(token) != MMDS_TOKEN_LEN)
		return false;
	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &len, raw, MMDS_TOKEN_LEN, token) ||
	    !base64_decode_final(&ctx) || len != sizeof(*ret_sealed))
		return false;
	memcpy(ret_sealed, raw, sizeof(*ret_sealed));
	return true;
}

/* Compares all bytes whatever the first ones are. */
static bool same(const uint8_t *a, const uint8_t *b, size_t len)
{
	unsigned difference = 0;

	for (size_t i = 0; i < len; i++)
		difference |= (unsigned)(a[i] ^ b[i]);
	return difference == 0;
}

bool mmds_token_valid(const struct mmds_tokens *tokens, const char *token)
{
	struct gcm_aes256_ctx ctx;
	struct sealed sealed;
	uint8_t tag[GCM_DIGEST_SIZE];
	uint64_t expiry;

	if (!tokens->keyed || !decode(token, &sealed))
		return false;
	begin(&ctx, tokens, &sealed);
	gcm_aes256_decrypt(&ctx, sizeof(expiry), (uint8_t *)&expiry,
			   sealed.expiry);
	gcm_aes256_digest(&ctx, sizeof(tag), tag);
	return same(tag, sealed.tag, sizeof(tag)) && monotonic_ns() < expiry;
}
