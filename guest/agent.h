/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ember-agent: a small program for the inside of a guest. It serves requests
 * that come over vsock (run a command, call a function, echo, send and receive
 * test data) and connects to the host to test the other direction.
 *
 * With VSOCK_UNIX=PREFIX in the environment port P is the Unix socket PREFIX_P,
 * so that everything can be tried without a guest; with AGENT_TCP=ADDRESS it is
 * the TCP port P of that address (0.0.0.0 for servers).
 */
#ifndef EMBER_AGENT_H
#define EMBER_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --------------------------------------------------------------- transport */

/* A listening, non-blocking socket; ends the program when that fails. */
int agent_listen(unsigned port);

/* A connected socket, or -1 with errno. */
int agent_connect(unsigned port);

/* -------------------------------------------------------------------- data */

/* All @len bytes. False when the other side is gone. */
bool agent_send(int fd, const void *data, size_t len);

/* Exactly @len bytes. False at the end of the stream. */
bool agent_receive(int fd, void *data, size_t len);

/* The test pattern at byte @off of a stream: bytes of a mixed 64-bit counter,
 * so that any loss, doubling or swap shows. */
void agent_pattern(uint8_t *buf, size_t len, uint64_t off);

/* Receives up to the end, or until @most bytes are there; how many there were,
 * and whether they were the pattern. */
uint64_t agent_receive_pattern(int fd, uint64_t most, bool *ret_matched);
bool agent_send_pattern(int fd, uint64_t bytes);

double agent_now(void); /* seconds, monotonic */
void agent_fail(const char *what) __attribute__((noreturn));

/* ---------------------------------------------------------------- commands */

/* Arguments are what follows the command's name; the exit code comes back. */
int agent_echo(int argc, char **argv);
int agent_exec(int argc, char **argv);
int agent_function(int argc, char **argv);
int agent_source(int argc, char **argv);
int agent_sink(int argc, char **argv);
int agent_take(int argc, char **argv);
int agent_connect_echo(int argc, char **argv);
int agent_sequential(int argc, char **argv);
int agent_ping(int argc, char **argv);
int agent_half_close(int argc, char **argv);
int agent_push(int argc, char **argv);
int agent_soak(int argc, char **argv);
int agent_disk(int argc, char **argv);

#endif
