/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api EMBER GUEST REQUESTS: how quickly the API answers.
 *
 * One thread asks, as quickly as answers come: on one connection, on
 * CONNECTIONS of them with a request outstanding on each, and on a connection
 * for each request. What the asking side costs is in the figures, on the other
 * processor if there is one. Then a guest runs, and is asked about. One line
 * per figure:
 *
 *   api_requests_per_s      GET / on one connection
 *   api_request_p50_us      a request among these, the median ...
 *   api_request_p99_us      ... and what one of a hundred exceeds
 *   api_8_requests_per_s    the same on 8 connections
 *   api_8_request_p50_us, api_8_request_p99_us
 *   api_connections_per_s   connect, GET /, close
 *   api_put_p50_us          PUT /machine-config, the median
 *   api_config_p50_us       GET /vm/config while the guest runs, the median
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define REQUESTS_MAX 20000
#define CONNECTIONS 8

struct bench {
	const char *ember;
	struct monitor monitor;
	size_t count; /* of requests */
	double us[REQUESTS_MAX];
};

static void ask(int socket, const char *request)
{
	size_t len = strlen(request);

	if (write(socket, request, len) != (ssize_t)len)
		die("write");
}

static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/* A connection more. */
static int connection(const struct bench *bench)
{
	struct monitor again = bench->monitor;

	monitor_connect(&again, monotonic_ns());
	return again.socket;
}

/* Requests per second. */
static double rate(const struct bench *bench, uint64_t start_ns)
{
	return (double)bench->count / since_us(start_ns) * 1e6;
}

static void print_latency(struct bench *bench, const char *name)
{
	double middle = median(bench->us, bench->count);
	char samples[64];

	printf("%s_p50_us %.1f\n", name, middle);
	printf("%s_p99_us %.1f\n", name, bench->us[bench->count * 99 / 100]);
	snprintf(samples, sizeof(samples), "%s_us", name);
	print_samples(samples, bench->us, bench->count);
}

/* One after the other. */
static void measure_one(struct bench *bench)
{
	int socket = bench->monitor.socket;
	uint64_t start = monotonic_ns();

	for (size_t i = 0; i < bench->count; i++) {
		uint64_t sent = monotonic_ns();

		ask(socket, get);
		answer_read(socket);
		bench->us[i] = since_us(sent);
	}
	printf("api_requests_per_s %.0f\n", rate(bench, start));
	print_latency(bench, "api_request");
}

/* On every connection the next request is sent as soon as it has its answer. */
static void measure_many(struct bench *bench)
{
	struct pollfd fds[CONNECTIONS];
	uint64_t sent[CONNECTIONS], start;
	size_t asked = 0, answered = 0;

	for (size_t i = 0; i < CONNECTIONS; i++)
		fds[i] = (struct pollfd){connection(bench), POLLIN, 0};
	start = monotonic_ns();
	for (size_t i = 0; i < CONNECTIONS && asked < bench->count; i++) {
		sent[i] = monotonic_ns();
		ask(fds[i].fd, get);
		asked++;
	}
	while (answered < bench->count) {
		if (poll(fds, CONNECTIONS, 5000) <= 0)
			die("no answer");
		for (size_t i = 0; i < CONNECTIONS; i++) {
			if (!fds[i].revents)
				continue;
			answer_read(fds[i].fd);
			bench->us[answered++] = since_us(sent[i]);
			if (asked++ >= bench->count)
				continue;
			sent[i] = monotonic_ns();
			ask(fds[i].fd, get);
		}
	}
	printf("api_8_requests_per_s %.0f\n", rate(bench, start));
	for (size_t i = 0; i < CONNECTIONS; i++)
		close(fds[i].fd);
	print_latency(bench, "api_8_request");
}

static void measure_connections(struct bench *bench)
{
	uint64_t start = monotonic_ns();

	for (size_t i = 0; i < bench->count; i++) {
		int socket = connection(bench);

		ask(socket, get);
		answer_read(socket);
		close(socket);
	}
	printf("api_connections_per_s %.0f\n", rate(bench, start));
	fflush(stdout);
}

static void measure_request(struct bench *bench, const char *figure,
			    const char *method, const char *path,
			    const char *body)
{
	for (size_t i = 0; i < bench->count; i++) {
		uint64_t sent = monotonic_ns();

		monitor_request(&bench->monitor, method, path, body);
		bench->us[i] = since_us(sent);
	}
	printf("%s %.1f\n", figure, median(bench->us, bench->count));
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	static struct bench bench;

	bench.count = argc == 4 ? (size_t)atoi(argv[3]) : 0;
	if (bench.count < 1 || bench.count > REQUESTS_MAX) {
		fputs("usage: api EMBER GUEST REQUESTS\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds */
	monitor_spawn_api(&bench.monitor, argv[1], 0);
	monitor_connect(&bench.monitor, monotonic_ns());
	monitor_request(&bench.monitor, "GET", "/", ""); /* the first one */
	measure_one(&bench);
	measure_many(&bench);
	measure_connections(&bench);
	measure_request(&bench, "api_put_p50_us", "PUT", "/machine-config",
			"{\"vcpu_count\":1,\"mem_size_mib\":128}");
	monitor_configure(&bench.monitor, argv[2], 128);
	monitor_request(&bench.monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(&bench.monitor, "ready\n");
	measure_request(&bench, "api_config_p50_us", "GET", "/vm/config", "");
	monitor_kill(&bench.monitor);
	return EXIT_SUCCESS;
}
