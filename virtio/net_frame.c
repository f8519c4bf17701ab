/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_frame.h"

/* flags and gso_type (5.1.6) */
#define HEADER_NEEDS_CSUM 1
#define GSO_NONE 0

static const struct {
	uint8_t gso_type;
	unsigned feature;
} gso_types[] = {
	{1, VIRTIO_NET_F_HOST_TSO4},
	{3, VIRTIO_NET_F_HOST_UFO},
	{4, VIRTIO_NET_F_HOST_TSO6},
};

static bool gso_allowed(uint8_t gso_type, uint64_t features)
{
	for (size_t i = 0; i < ARRAY_SIZE(gso_types); i++)
		if (gso_types[i].gso_type == gso_type)
			return features & BIT(gso_types[i].feature);
	return gso_type == GSO_NONE;
}

/* The 16 bits to be filled in must lie in the frame. */
static bool checksum_in_frame(const struct net_header *header, size_t frame_len)
{
	return (size_t)le16_get(header->csum_start) +
		       le16_get(header->csum_offset) + 2 <=
	       frame_len;
}

bool net_header_sanitize(struct net_header *header, uint64_t features,
			 size_t frame_len)
{
	header->flags &= HEADER_NEEDS_CSUM;
	header->num_buffers = le16_make(0);
	if (!gso_allowed(header->gso_type, features))
		return false;
	if (header->gso_type == GSO_NONE && header->flags == 0)
		return true;
	return (features & BIT(VIRTIO_NET_F_CSUM)) && header->flags &&
	       checksum_in_frame(header, frame_len);
}

bool net_frame_complete_checksum(uint8_t *frame, size_t len,
				 const struct net_header *header)
{
	size_t start = le16_get(header->csum_start);
	uint32_t sum = 0;
	uint8_t *field;

	if (!(header->flags & HEADER_NEEDS_CSUM))
		return true;
	if (!checksum_in_frame(header, len))
		return false;
	/* The field holds the sum of the pseudo header already. */
	for (size_t i = start; i + 1 < len; i += 2)
		sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
	field = frame + start + le16_get(header->csum_offset);
	if ((len - start) % 2)
		sum += (uint32_t)(frame[len - 1] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	field[0] = (uint8_t)(~sum >> 8);
	field[1] = (uint8_t)~sum;
	return true;
}
