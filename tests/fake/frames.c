/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/frames.h"

#include <string.h>

#define IP_PROTOCOL_TCP 6

static const uint8_t guest_mac[] = {6, 0, 0, 0, 0, 1};
static const uint8_t service_mac[] = {6, 1, 0x23, 0x45, 0x67, 1};

uint32_t frame_be16(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 8 | bytes[1];
}

uint32_t frame_be32(const uint8_t *bytes)
{
	return frame_be16(bytes) << 16 | frame_be16(bytes + 2);
}

static void put16(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, value >> 16);
	put16(bytes + 2, value & 0xffff);
}

static void put_ethernet(uint8_t *frame, uint32_t type)
{
	memcpy(frame, service_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	put16(frame + 12, type);
}

size_t frame_arp(uint8_t *to, uint32_t address)
{
	uint8_t *arp = to + FRAME_ETHERNET;

	put_ethernet(to, 0x0806);
	memset(to, 0xff, 6);
	put16(arp, 1);
	put16(arp + 2, 0x0800);
	put16(arp + 4, 0x0604);
	put16(arp + 6, 1);
	memcpy(arp + 8, guest_mac, 6);
	put32(arp + 14, FRAME_GUEST_IP);
	memset(arp + 18, 0, 6);
	put32(arp + 24, address);
	return FRAME_ETHERNET + 28;
}

static uint32_t add(uint32_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += frame_be16(bytes + i);
	if (len % 2)
		sum += (uint32_t)bytes[len - 1] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Over the pseudo header and @len bytes of segment. */
static uint16_t tcp_checksum(const uint8_t *ip, const uint8_t *tcp, size_t len)
{
	uint32_t sum = IP_PROTOCOL_TCP + (uint32_t)len;

	return fold(add(add(sum, ip + 12, 8), tcp, len));
}

void frame_fix_checksums(uint8_t *frame, size_t len)
{
	uint8_t *ip = frame + FRAME_ETHERNET, *tcp;
	size_t head, total;

	if (len < FRAME_HEADERS || frame_be16(frame + 12) != 0x0800 ||
	    ip[9] != IP_PROTOCOL_TCP)
		return;
	head = (ip[0] & 0xfu) * 4;
	total = frame_be16(ip + 2);
	if (head < FRAME_IP || total > len - FRAME_ETHERNET ||
	    total < head + FRAME_TCP)
		return;
	put16(ip + 10, 0);
	put16(ip + 10, fold(add(0, ip, head)));
	tcp = ip + head;
	put16(tcp + 16, 0);
	put16(tcp + 16, tcp_checksum(ip, tcp, total - head));
}

/* Returns the length. */
static size_t put_options(uint8_t *to, const struct segment *segment)
{
	if (!segment->mss)
		return 0;
	to[0] = 2;
	to[1] = 4;
	put16(to + 2, segment->mss);
	return 4;
}

size_t frame_tcp(uint8_t *to, const struct segment *segment)
{
	uint8_t *ip = to + FRAME_ETHERNET, *tcp = ip + FRAME_IP;
	size_t options = put_options(tcp + FRAME_TCP, segment);
	size_t total = FRAME_IP + FRAME_TCP + options + segment->len;

	put_ethernet(to, 0x0800);
	memset(ip, 0, FRAME_IP + FRAME_TCP);
	ip[0] = 0x45;
	put16(ip + 2, (uint32_t)total);
	ip[8] = 64;
	ip[9] = IP_PROTOCOL_TCP;
	put32(ip + 12, FRAME_GUEST_IP);
	put32(ip + 16, FRAME_SERVICE_IP);
	put16(tcp, segment->from_port);
	put16(tcp + 2, segment->to_port);
	put32(tcp + 4, segment->seq);
	put32(tcp + 8, segment->ack);
	tcp[12] = (uint8_t)((FRAME_TCP + options) / 4 << 4);
	tcp[13] = segment->flags;
	put16(tcp + 14, 65535u - segment->shut);
	if (segment->len)
		memcpy(tcp + FRAME_TCP + options, segment->data, segment->len);
	frame_fix_checksums(to, FRAME_ETHERNET + total);
	return FRAME_ETHERNET + total;
}

bool frame_parse_tcp(const uint8_t *frame, size_t len, struct segment *segment)
{
	const uint8_t *ip = frame + FRAME_ETHERNET, *tcp = ip + FRAME_IP;
	size_t total, head;

	if (len < FRAME_HEADERS || frame_be16(frame + 12) != 0x0800 ||
	    ip[9] != IP_PROTOCOL_TCP)
		return false;
	total = frame_be16(ip + 2);
	head = (size_t)(tcp[12] >> 4) * 4;
	if (total > len - FRAME_ETHERNET || total < FRAME_IP + head ||
	    fold(add(0, ip, FRAME_IP)) ||
	    tcp_checksum(ip, tcp, total - FRAME_IP))
		return false;
	*segment = (struct segment){
		.from_port = (uint16_t)frame_be16(tcp),
		.to_port = (uint16_t)frame_be16(tcp + 2),
		.seq = frame_be32(tcp + 4),
		.ack = frame_be32(tcp + 8),
		.flags = tcp[13],
		.data = tcp + head,
		.len = total - FRAME_IP - head,
	};
	return true;
}
