/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * To inflate, the driver sends numbers of pages of 4 KiB, in any order (5.5.6).
 * Some hundred at a time are sorted, and each run of neighbours is given back
 * to the host with one call. Reports and hints are buffers: the pages are what
 * the device may write to (5.5.6.5, 5.5.6.7).
 *
 * A request can name as much as the guest has, and scattered as it likes. So a
 * turn ends when it has made enough calls or freed enough pages, and the
 * request is gone on with after others had theirs. What was done for it is done
 * again if a snapshot comes between: a page that was given back cannot be in
 * use before the request is answered.
 *
 * Hints are of a run that the host began; those of an older run, or that come
 * after its end, are not acted on: their pages may be in use again.
 */
#include "virtio/balloon_device.h"
#include "vmm/log.h"

#include <errno.h>

/* Some milliseconds. */
#define TURN_CALLS 512
#define TURN_PAGES (MIB(128) / PAGE_SIZE_4K)

#define PFNS_MAX 512
#define PIECE_MAX MIB(64)

static bool turn_over(const struct balloon_turn *turn)
{
	return turn->calls <= 0 || turn->pages <= 0;
}

/* Once: what the host cannot do it mostly cannot do again and again. */
static void complain(struct balloon *balloon, int ret)
{
	if (!balloon->complained)
		log_warn("balloon: memory cannot be given back to the host: %s "
			 "(os error %d)",
			 os_error_text(-ret), -ret);
	balloon->complained = true;
}

/* False: nothing, or not all of it, was given back. */
static bool give_back(struct balloon *balloon, struct balloon_turn *turn,
		      uint64_t gpa, uint64_t len)
{
	int ret = gmem_discard(balloon->dev.mem, gpa, len);

	turn->calls--;
	if (ret == -EFAULT)
		log_guest("balloon: pages at %#lx are not in RAM",
			  (unsigned long)gpa);
	else if (ret)
		complain(balloon, ret);
	else
		turn->pages -= (int64_t)(len / PAGE_SIZE_4K);
	return !ret;
}

/* ----------------------------------------------------------------- inflate */

/* Shell's: small, and quick with numbers that are in order already. */
static void sort(uint32_t *pfns, size_t count)
{
	static const uint8_t gaps[] = {132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < ARRAY_SIZE(gaps); g++)
		for (size_t i = gaps[g]; i < count; i++) {
			const uint32_t pfn = pfns[i];
			size_t at = i;

			for (; at >= gaps[g] && pfns[at - gaps[g]] > pfn;
			     at -= gaps[g])
				pfns[at] = pfns[at - gaps[g]];
			pfns[at] = pfn;
		}
}

/* Drivers that go downwards send what only has to be turned round. */
static void reverse_if_descending(uint32_t *pfns, size_t count)
{
	if (count < 2 || pfns[0] <= pfns[count - 1])
		return;
	for (size_t i = 0; i < count / 2; i++) {
		const uint32_t pfn = pfns[i];

		pfns[i] = pfns[count - 1 - i];
		pfns[count - 1 - i] = pfn;
	}
}

static void give_back_pfns(struct balloon *balloon, struct balloon_turn *turn,
			   uint32_t *pfns, size_t count)
{
	size_t next;

	reverse_if_descending(pfns, count);
	sort(pfns, count);
	for (size_t i = 0; i < count; i = next) {
		uint64_t end = UINT64_C(1) + pfns[i];

		for (next = i + 1; next < count && pfns[next] <= end; next++)
			end = UINT64_C(1) + pfns[next];
		if (!give_back(balloon, turn, pfns[i] * PAGE_SIZE_4K,
			       (end - pfns[i]) * PAGE_SIZE_4K))
			metric_inc(&balloon->metrics->event_fails);
	}
}

/* True: the request is done. */
static bool inflate(struct balloon *balloon, struct balloon_job *job,
		    struct balloon_turn *turn)
{
	struct chain *chain = &job->chain;
	le32 raw[PFNS_MAX];
	uint32_t pfns[PFNS_MAX];

	while (chain->readable.left >= sizeof(raw[0])) {
		size_t count = MIN(chain->readable.left / sizeof(raw[0]),
				   (size_t)PFNS_MAX);

		if (turn_over(turn))
			return false;
		turn->calls--;
		if (chain_read(chain, raw, count * sizeof(raw[0]))) {
			metric_inc(&balloon->metrics->event_fails);
			log_guest("balloon: page numbers are not in RAM");
			return true;
		}
		for (size_t i = 0; i < count; i++)
			pfns[i] = le32_get(raw[i]);
		give_back_pfns(balloon, turn, pfns, count);
	}
	return true;
}

/* The pages are the guest's again, and come when it touches them. */
static bool deflate(struct balloon *balloon, struct balloon_job *job,
		    struct balloon_turn *turn)
{
	(void)balloon;
	(void)job;
	turn->calls--;
	return true;
}

/* ------------------------------------------------------- reports and hints */

/* What counts how many bytes came back, and how many pieces did not. */
static bool give_back_buffers(struct balloon *balloon, struct balloon_job *job,
			      struct balloon_turn *turn, struct metric *freed,
			      struct metric *fails)
{
	const struct chain_segment *segments;
	uint16_t count = chain_writable_segments(&job->chain, &segments);

	while (job->segment < count) {
		const struct chain_segment *segment = &segments[job->segment];
		uint64_t len = MIN(segment->len - job->off, PIECE_MAX);
		bool whole = gmem_contains(balloon->dev.mem, segment->gpa,
					   segment->len);

		if (turn_over(turn))
			return false;
		/* One that is not RAM as a whole is refused as a whole. */
		if (!whole)
			len = segment->len;
		if (give_back(balloon, turn, segment->gpa + job->off, len))
			metric_add(freed, len);
		else
			metric_inc(fails);
		job->off += len;
		if (job->off < segment->len)
			continue;
		job->segment++;
		job->off = 0;
	}
	return true;
}

static bool take_report(struct balloon *balloon, struct balloon_job *job,
			struct balloon_turn *turn)
{
	struct balloon_metrics *metrics = balloon->metrics;

	if (!job->segment && !job->off)
		metric_inc(&metrics->free_page_report_count);
	return give_back_buffers(balloon, job, turn,
				 &metrics->free_page_report_freed,
				 &metrics->free_page_report_fails);
}

/* The driver begins or ends a run of hints. */
static void take_command(struct balloon *balloon, struct chain *chain)
{
	le32 cmd;

	if (chain_read(chain, &cmd, sizeof(cmd))) {
		metric_inc(&balloon->metrics->free_page_hint_fails);
		log_guest("balloon: a hint's command is not in RAM");
		return;
	}
	balloon->has_guest_cmd = true;
	balloon->guest_cmd = le32_get(cmd);
	if (balloon->guest_cmd == BALLOON_CMD_STOP && balloon->acknowledge &&
	    balloon->host_cmd >= BALLOON_CMD_FIRST)
		balloon_command(balloon, BALLOON_CMD_DONE);
}

static bool run_goes_on(const struct balloon *balloon)
{
	return balloon->host_cmd >= BALLOON_CMD_FIRST &&
	       balloon->has_guest_cmd &&
	       balloon->guest_cmd == balloon->host_cmd;
}

static bool take_hint(struct balloon *balloon, struct balloon_job *job,
		      struct balloon_turn *turn)
{
	struct balloon_metrics *metrics = balloon->metrics;

	if (job->chain.readable.left >= sizeof(le32))
		take_command(balloon, &job->chain);
	chain_skip(&job->chain, job->chain.readable.left);
	/* Also if the run ended between two turns. */
	if (!job->chain.writable.left || !run_goes_on(balloon))
		return true;
	if (!job->segment && !job->off)
		metric_inc(&metrics->free_page_hint_count);
	return give_back_buffers(balloon, job, turn,
				 &metrics->free_page_hint_freed,
				 &metrics->free_page_hint_fails);
}

/* -------------------------------------------------------------------- turns */

typedef bool (*work_fn)(struct balloon *balloon, struct balloon_job *job,
			struct balloon_turn *turn);

static const work_fn work_of[BALLOON_ROLES] = {
	[BALLOON_INFLATE] = inflate,
	[BALLOON_DEFLATE] = deflate,
	[BALLOON_HINT] = take_hint,
	[BALLOON_REPORT] = take_report,
};

/* 1: there is a request to work on. 0, -EPROTO: as queue_pop. */
static int open_job(struct queue *queue, struct balloon_job *job)
{
	int ret;

	if (job->open)
		return 1;
	ret = queue_pop(queue, &job->chain);
	if (ret <= 0)
		return ret;
	job->open = true;
	job->segment = 0;
	job->off = 0;
	return 1;
}

int balloon_serve_pages(struct balloon *balloon, uint16_t q,
			enum balloon_role role, bool *ret_more)
{
	struct queue *queue = &balloon->dev.queues[q];
	struct balloon_job *job = &balloon->jobs[role];
	struct balloon_turn turn = {TURN_CALLS, TURN_PAGES};
	int served = 0;
	int ret = 1;

	queue_kicks_disable(queue);
	while (served < queue->size && !turn_over(&turn)) {
		ret = open_job(queue, job);
		if (ret <= 0 || !work_of[role](balloon, job, &turn))
			break;
		job->open = false;
		queue_put(queue, job->chain.head, 0);
		served++;
	}
	if (served)
		queue_publish(queue);
	if (ret < 0)
		return ret;
	*ret_more = queue_kicks_enable(queue) || job->open;
	return served;
}
