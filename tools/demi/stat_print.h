/* SPDX-License-Identifier: MIT
 * tools/demi/stat_print.h - an instance's document as text.
 */
#pragma once

#include "json.h"

#include <stdbool.h>

/* All of it: values, sections, tables. */
void stat_print(const struct json *document);

/* One line; the headings before it if it is the first. */
void stat_print_line(const struct json *document, bool first);
