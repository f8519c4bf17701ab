/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections by (host port, guest port): a chained hash table that doubles
 * when it is full. The guest chooses half of the key, so the hash has a secret.
 */
#include "virtio/vsock_device.h"

#include <errno.h>

#define BUCKETS_MIN 64

/* A multiplicative hash: the high bits of the product are the mixed ones. */
static size_t bucket_of(const struct vsock *vsock, size_t bucket_count,
			uint32_t host_port, uint32_t guest_port)
{
	uint64_t key = (uint64_t)host_port << 32 | guest_port;

	key = (key ^ vsock->hash_seed) * UINT64_C(0x9e3779b97f4a7c15);
	key ^= key >> 32;
	key *= UINT64_C(0xd6e8feb86659fd93);
	return (size_t)(key >> 32) & (bucket_count - 1);
}

static void link_in(const struct vsock *vsock, struct conn **buckets,
		    size_t count, struct conn *conn)
{
	struct conn **bucket = &buckets[bucket_of(vsock, count, conn->host_port,
						  conn->guest_port)];

	conn->hash_next = *bucket;
	*bucket = conn;
}

static int grow(struct vsock *vsock)
{
	size_t count = MAX(2 * vsock->bucket_count, (size_t)BUCKETS_MIN);
	struct conn **buckets = calloc(count, sizeof(struct conn *));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < vsock->bucket_count; i++) {
		struct conn *conn = vsock->buckets[i];

		while (conn) {
			struct conn *next = conn->hash_next;

			link_in(vsock, buckets, count, conn);
			conn = next;
		}
	}
	free(vsock->buckets);
	vsock->buckets = buckets;
	vsock->bucket_count = count;
	return 0;
}

int vsock_table_insert(struct vsock *vsock, struct conn *conn)
{
	if (vsock->hash_count == vsock->bucket_count && grow(vsock))
		return -ENOMEM;
	link_in(vsock, vsock->buckets, vsock->bucket_count, conn);
	vsock->hash_count++;
	return 0;
}

void vsock_table_remove(struct vsock *vsock, const struct conn *conn)
{
	struct conn **link;

	if (!vsock->bucket_count)
		return;
	link = &vsock->buckets[bucket_of(vsock, vsock->bucket_count,
					 conn->host_port, conn->guest_port)];
	while (*link && *link != conn)
		link = &(*link)->hash_next;
	if (!*link)
		return;
	*link = conn->hash_next;
	vsock->hash_count--;
}

void vsock_table_clear(struct vsock *vsock)
{
	free(take_ptr(vsock->buckets));
	vsock->bucket_count = vsock->hash_count = 0;
}

struct conn *vsock_table_find(const struct vsock *vsock, uint32_t host_port,
			      uint32_t guest_port)
{
	struct conn *conn;

	if (!vsock->bucket_count)
		return NULL;
	conn = vsock->buckets[bucket_of(vsock, vsock->bucket_count, host_port,
					guest_port)];
	while (conn &&
	       (conn->host_port != host_port || conn->guest_port != guest_port))
		conn = conn->hash_next;
	return conn;
}
