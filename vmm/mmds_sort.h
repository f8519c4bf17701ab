/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest sees the keys of the metadata document in order. Sorting a full
 * document takes longer than a guest's request may keep the loop, so it is done
 * when the host changes the document. Thread: loop.
 */
#ifndef EMBER_MMDS_SORT_H
#define EMBER_MMDS_SORT_H

#include <jansson.h>

/* A copy of @value in which all objects have their keys in order: the caller's
 * reference. NULL without memory. */
json_t *mmds_sort(json_t *value);

#endif
