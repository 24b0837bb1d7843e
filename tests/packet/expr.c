/* SPDX-License-Identifier: MIT
 * tests/packet/expr.c - a small evaluator of assertions.
 *
 * Grammar, loosest first: or, and, not, comparison (one), + -, * / %, -, atom.
 */
#include "packet/expr.h"

#include "packet/script.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name)                                                                          \
	{                                                                                    \
#name, offsetof(struct tcp_info, name), sizeof(((struct tcp_info *)0)->name) \
	}

static const struct {
	const char *name;
	size_t offset;
	size_t bytes;
} fields[] = {
	FIELD(tcpi_state),
	FIELD(tcpi_ca_state),
	FIELD(tcpi_retransmits),
	FIELD(tcpi_probes),
	FIELD(tcpi_backoff),
	FIELD(tcpi_options),
	FIELD(tcpi_rto),
	FIELD(tcpi_ato),
	FIELD(tcpi_snd_mss),
	FIELD(tcpi_rcv_mss),
	FIELD(tcpi_unacked),
	FIELD(tcpi_sacked),
	FIELD(tcpi_lost),
	FIELD(tcpi_retrans),
	FIELD(tcpi_fackets),
	FIELD(tcpi_last_data_sent),
	FIELD(tcpi_last_ack_sent),
	FIELD(tcpi_last_data_recv),
	FIELD(tcpi_last_ack_recv),
	FIELD(tcpi_pmtu),
	FIELD(tcpi_rcv_ssthresh),
	FIELD(tcpi_rtt),
	FIELD(tcpi_rttvar),
	FIELD(tcpi_snd_ssthresh),
	FIELD(tcpi_snd_cwnd),
	FIELD(tcpi_advmss),
	FIELD(tcpi_reordering),
	FIELD(tcpi_rcv_rtt),
	FIELD(tcpi_rcv_space),
	FIELD(tcpi_total_retrans),
	FIELD(tcpi_pacing_rate),
	FIELD(tcpi_bytes_acked),
	FIELD(tcpi_bytes_received),
	FIELD(tcpi_segs_out),
	FIELD(tcpi_segs_in),
	FIELD(tcpi_notsent_bytes),
	FIELD(tcpi_min_rtt),
	FIELD(tcpi_data_segs_in),
	FIELD(tcpi_data_segs_out),
	FIELD(tcpi_bytes_sent),
	FIELD(tcpi_bytes_retrans),
	FIELD(tcpi_dsack_dups),
	FIELD(tcpi_rcv_ooopack),
	FIELD(tcpi_snd_wnd),
};

struct evaluator {
	const char *at;
	const struct tcp_info *info;
	int depth;
	char fault[96];
	char seen[160]; /* names and their values */
};

static int64_t eval_or(struct evaluator *e);

static int64_t fault(struct evaluator *e, const char *what, const char *where)
{
	if (!e->fault[0])
		snprintf(e->fault, sizeof(e->fault), "%s `%.40s`", what, where);
	return 0;
}

static void skip_space(struct evaluator *e)
{
	while (isspace((unsigned char)*e->at))
		e->at++;
}

static bool accept(struct evaluator *e, const char *text)
{
	size_t length = strlen(text);

	skip_space(e);
	if (strncmp(e->at, text, length) != 0)
		return false;
	if (isalpha((unsigned char)text[0]) &&
	    (isalnum((unsigned char)e->at[length]) || e->at[length] == '_'))
		return false;
	e->at += length;
	return true;
}

static void note(struct evaluator *e, const char *name, int64_t value)
{
	size_t used = strlen(e->seen);

	snprintf(e->seen + used, sizeof(e->seen) - used, " %s is %" PRId64, name, value);
}

static int64_t load_field(const struct tcp_info *info, size_t offset, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, (const uint8_t *)info + offset, bytes);
	return (int64_t)value;
}

static int64_t eval_name(struct evaluator *e)
{
	char name[64];
	size_t length = 0;
	int64_t value;

	while ((isalnum((unsigned char)*e->at) || *e->at == '_') && length < sizeof(name) - 1)
		name[length++] = *e->at++;
	name[length] = '\0';
	/* Bit fields have no offset. */
	if (strcmp(name, "tcpi_snd_wscale") == 0) {
		note(e, name, e->info->tcpi_snd_wscale);
		return e->info->tcpi_snd_wscale;
	}
	if (strcmp(name, "tcpi_rcv_wscale") == 0) {
		note(e, name, e->info->tcpi_rcv_wscale);
		return e->info->tcpi_rcv_wscale;
	}
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(name, fields[i].name) == 0) {
			value = load_field(e->info, fields[i].offset, fields[i].bytes);
			note(e, name, value);
			return value;
		}
	}
	if (symbol_find(name, &value))
		return value;
	return fault(e, "not known in an assertion:", name);
}

static int64_t eval_atom(struct evaluator *e)
{
	int64_t value;
	char *end;

	skip_space(e);
	if (e->depth > 32)
		return fault(e, "nested too deeply at", e->at);
	if (accept(e, "(")) {
		e->depth++;
		value = eval_or(e);
		e->depth--;
		return accept(e, ")") ? value : fault(e, "expected ) at", e->at);
	}
	if (isdigit((unsigned char)*e->at)) {
		value = strtoll(e->at, &end, 0);
		e->at = end;
		return value;
	}
	if (isalpha((unsigned char)*e->at) || *e->at == '_')
		return eval_name(e);
	return fault(e, "expected a value at", e->at);
}

static int64_t eval_sign(struct evaluator *e)
{
	bool minus = false;

	while (accept(e, "-"))
		minus = !minus;
	uint64_t value = (uint64_t)eval_atom(e);
	return (int64_t)(minus ? 0 - value : value);
}

static int64_t eval_product(struct evaluator *e)
{
	int64_t left = eval_sign(e);

	for (;;) {
		bool times = accept(e, "*");
		bool over = !times && (accept(e, "//") || accept(e, "/"));
		if (!times && !over && !accept(e, "%"))
			return left;
		int64_t right = eval_sign(e);
		if (times)
			left = (int64_t)((uint64_t)left * (uint64_t)right);
		else if (right == 0 || right == -1)
			left = over && right ? (int64_t)(0 - (uint64_t)left) : 0;
		else
			left = over ? left / right : left % right;
	}
}

static int64_t eval_sum(struct evaluator *e)
{
	uint64_t left = (uint64_t)eval_product(e);

	for (;;) {
		if (accept(e, "+"))
			left += (uint64_t)eval_product(e);
		else if (accept(e, "-"))
			left -= (uint64_t)eval_product(e);
		else
			return (int64_t)left;
	}
}

static int64_t eval_comparison(struct evaluator *e)
{
	int64_t left = eval_sum(e);

	if (accept(e, "=="))
		return left == eval_sum(e);
	if (accept(e, "!="))
		return left != eval_sum(e);
	if (accept(e, "<="))
		return left <= eval_sum(e);
	if (accept(e, ">="))
		return left >= eval_sum(e);
	if (accept(e, "<"))
		return left < eval_sum(e);
	if (accept(e, ">"))
		return left > eval_sum(e);
	return left;
}

static int64_t eval_not(struct evaluator *e)
{
	bool invert = false;
	bool any = false;

	while (accept(e, "not")) {
		invert = !invert;
		any = true;
	}
	int64_t value = eval_comparison(e);
	return any ? (value == 0) == invert : value;
}

static int64_t eval_and(struct evaluator *e)
{
	int64_t left = eval_not(e);

	while (accept(e, "and")) {
		int64_t right = eval_not(e);
		left = left && right;
	}
	return left;
}

static int64_t eval_or(struct evaluator *e)
{
	int64_t left = eval_and(e);

	while (accept(e, "or")) {
		int64_t right = eval_and(e);
		left = left || right;
	}
	return left;
}

/* One assertion; *text behind it.  False: a fault, or it does not hold. */
static bool assertion(struct evaluator *e, bool *holds)
{
	e->seen[0] = '\0';
	if (!accept(e, "assert")) {
		(void)fault(e, "only assert is supported in %{ }%, not", e->at);
		return false;
	}
	*holds = eval_or(e) != 0;
	if (accept(e, ",")) /* what to show */
		(void)eval_or(e);
	return e->fault[0] == '\0';
}

static bool run(const char *text, const struct tcp_info *info, bool check_only, char *why,
		size_t why_bytes)
{
	struct evaluator e = {.at = text, .info = info};

	for (;;) {
		while (accept(&e, ";"))
			;
		if (!*e.at)
			return true;
		const char *start = e.at;
		bool holds = false;
		if (!assertion(&e, &holds)) {
			snprintf(why, why_bytes, "%s", e.fault);
			return false;
		}
		if (!holds && !check_only) {
			snprintf(why, why_bytes, "%.*s:%s", (int)(e.at - start), start, e.seen);
			return false;
		}
	}
}

bool expr_check(const char *text, char *why, size_t why_bytes)
{
	static const struct tcp_info zero;

	return run(text, &zero, true, why, why_bytes);
}

bool expr_hold(const char *text, const struct tcp_info *info, char *why, size_t why_bytes)
{
	return run(text, info, false, why, why_bytes);
}
