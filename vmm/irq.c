/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include "vmm/kvm.h"

#include <errno.h>
#include <sys/eventfd.h>

int irq_pool_take(struct irq_pool *pool, uint32_t *ret_gsi, struct error *err)
{
	if (pool->next > IRQ_GSI_LAST_DEVICE)
		return error_set(err, ENOSPC,
				 "Could not allocate GSI: The requested "
				 "resource is not available.");
	*ret_gsi = pool->next++;
	return 0;
}

int irq_line_open(struct irq_line *line, struct kvm *kvm, uint32_t gsi,
		  struct error *err)
{
	AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int ret;

	if (fd < 0)
		return error_set_os(err, errno,
				    "Could not create an interrupt eventfd:");
	ret = kvm_add_irqfd(kvm, gsi, fd, err);
	if (ret)
		return ret;
	line->gsi = gsi;
	line->fd = take_fd(&fd);
	return 0;
}

int irq_line_open_level(struct irq_line *line, struct kvm *kvm, uint32_t gsi,
			struct error *err)
{
	int ret = irq_line_open(line, kvm, gsi, err);

	if (!ret)
		line->kvm = kvm;
	return ret;
}

void irq_line_close(struct irq_line *line)
{
	close_fd(&line->fd);
	line->kvm = NULL;
}

void irq_line_trigger(const struct irq_line *line)
{
	const uint64_t one = 1;

	/* Can only fail with EAGAIN at 2^64-2 pending edges: one is pending
	 * then, which is all the driver needs. */
	if (line->fd >= 0 && write(line->fd, &one, sizeof(one)) < 0)
		return;
}

void irq_line_raise(const struct irq_line *line)
{
	if (line->kvm)
		kvm_set_irq(line->kvm, line->gsi, true);
	else
		irq_line_trigger(line);
}

void irq_line_lower(const struct irq_line *line)
{
	if (line->kvm)
		kvm_set_irq(line->kvm, line->gsi, false);
}

void irq_pulse(const struct kvm *kvm, uint32_t gsi)
{
	kvm_set_irq(kvm, gsi, true);
	kvm_set_irq(kvm, gsi, false);
}
