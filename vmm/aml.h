/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of AML, the byte code of ACPI tables (ACPI 6.4, chapter 20): just
 * the terms that a DSDT of named constants, devices and one method needs. It
 * appends to a buffer of fixed size; when that is full the writer remembers and
 * drops the rest, so that callers check once at the end.
 *
 * Objects that contain others are begun and ended; aml_end closes the one that
 * was begun with the returned mark. No state besides struct aml, any thread.
 */
#ifndef EMBER_AML_H
#define EMBER_AML_H

#include "vmm/util.h"

#include <stdbool.h>

struct aml {
	uint8_t *buf;
	size_t size;
	size_t len;
	bool overflow;
};

void aml_init(struct aml *aml, void *buf, size_t size);

/* A name segment is four characters; names may start at the root and have two
 * segments, as in "\\_SB_.VGEN". */
size_t aml_begin_scope(struct aml *aml, const char *name);
size_t aml_begin_device(struct aml *aml, const char *name);
void aml_end(struct aml *aml, size_t mark);

/* Name (name, value) */
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *value);
/* @id as in "PNP0501" (19.3.4). */
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);
void aml_name_package(struct aml *aml, const char *name, const uint32_t *values,
		      uint8_t count);

/* Method (name, arg_count, Serialized) {...} */
size_t aml_begin_method(struct aml *aml, const char *name, uint8_t arg_count);
/* If (Arg0 == value) {...} */
size_t aml_begin_if_arg0(struct aml *aml, uint64_t value);
/* Notify (name, value) */
void aml_notify(struct aml *aml, const char *name, uint8_t value);

/* Name (_CRS, ResourceTemplate () {...}), (6.4): descriptors go in between. */
size_t aml_begin_resources(struct aml *aml);
void aml_end_resources(struct aml *aml, size_t mark);
void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t len);
void aml_io(struct aml *aml, uint16_t base, uint8_t len);
void aml_irq_no_flags(struct aml *aml, unsigned irq);
/* Extended interrupt: consumer, edge, active high, exclusive. */
void aml_interrupt(struct aml *aml, uint32_t gsi);

#endif
