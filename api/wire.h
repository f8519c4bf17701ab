/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libmicrohttpd puts on the wire passes through here: microhttpd.sh
 * renames the library's send functions to these.
 *
 * The reason: clients of this interface read answers byte for byte. The head
 * must be `HTTP/1.1 204 ` without a reason phrase, then Server, Connection and
 * the rest in a fixed order and spelling, and head and body must arrive by one
 * send. The library composes heads in its own way and offers no say in it. So
 * the head it hands over is rewritten, and everything is sent at once.
 *
 * Thread: API.
 */
#ifndef EMBER_WIRE_H
#define EMBER_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define API_WIRE_HEAD_MAX 1024

/* Writes the head that clients expect in place of @head (which ends with the
 * empty line) to @out; returns its length, 0 when @head is not the head of an
 * answer or @size is too small. */
size_t api_wire_rewrite(const char *head, size_t len, char *out, size_t size);

/* As send, sendmsg and writev, but all or nothing: -1 means that the
 * connection is lost. */
ssize_t api_wire_send(int fd, const void *buf, size_t len, int flags);
ssize_t api_wire_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t api_wire_writev(int fd, const struct iovec *iov, int count);

#endif
