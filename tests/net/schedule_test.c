/* SPDX-License-Identifier: MIT
 * tests/net/schedule_test.c - demi_set_schedule: short requests before long ones, places that long
 * ones do not get, other waits beside it, and what the application's function may do.
 */
#include "support/net.h"

#include <errno.h>
#include <string.h>

enum { MANY = 8 };

static const struct timespec no_time;
static int queue;
static int called;
static bool tries; /* the function tries what it must not do */

/* Requests are one letter; those in capitals take long.  What failed is short. */
static int is_capital(void *arg, const demi_qresult_t *qr)
{
	assert_ptr_equal(arg, &queue);
	called++;
	if (tries) {
		demi_qtoken_t token;
		assert_int_equal(demi_pop(&token, queue), EBUSY);
		assert_int_equal(demi_set_schedule(NULL, NULL, 0), EBUSY);
		demi_sgarray_t sga = demi_sgaalloc(64);
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	if (qr->qr_opcode != DEMI_OPC_POP)
		return 0;
	return *(const char *)qr->qr_value.sga.sga_segs[0].sgaseg_buf < 'a';
}

static void push(char letter)
{
	demi_sgarray_t sga = demi_sgaalloc(1);
	demi_qtoken_t token;
	demi_qresult_t qr;

	*(char *)sga.sga_segs[0].sgaseg_buf = letter;
	assert_int_equal(demi_push(&token, queue, &sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_wait(&qr, token, &no_time), 0);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
}

static demi_qtoken_t pop(void)
{
	demi_qtoken_t token;

	assert_int_equal(demi_pop(&token, queue), 0);
	return token;
}

static void request(const char *letters)
{
	for (; *letters; letters++) {
		push(*letters);
		(void)pop();
	}
}

static void assert_is(demi_qresult_t *qr, char letter)
{
	assert_int_equal(qr->qr_opcode, DEMI_OPC_POP);
	assert_int_equal(*(char *)qr->qr_value.sga.sga_segs[0].sgaseg_buf, letter);
	assert_int_equal(demi_sgafree(&qr->qr_value.sga), 0);
}

/* A wait with so many places gives these, and none is an ETIMEDOUT. */
static void assert_next(int places, const char *letters)
{
	demi_qresult_t qrs[MANY];
	int count = (int)strlen(letters);
	int n = -1;

	assert_int_equal(demi_wait_next_n(qrs, places, &n, &no_time), count ? 0 : ETIMEDOUT);
	assert_int_equal(n, count);
	for (int i = 0; i < n; i++)
		assert_is(&qrs[i], letters[i]);
}

static void begin(int reserved)
{
	assert_int_equal(demi_queue(&queue), 0);
	assert_int_equal(demi_set_schedule(is_capital, &queue, reserved), 0);
	called = 0;
	tries = false;
}

static void end(void)
{
	assert_int_equal(demi_set_schedule(NULL, NULL, -1), 0);
	assert_int_equal(demi_close(queue), 0);
}

static void test_order(void **state)
{
	(void)state;
	begin(0);
	request("AaBbCc");
	assert_next(4, "abcA");
	request("d");
	assert_next(MANY, "dBC");
	assert_int_equal(called, 7); /* once each */
	assert_next(MANY, "");
	end();
}

static void test_reserved(void **state)
{
	(void)state;
	begin(2);
	request("ABCabc");
	assert_next(6, "abcA");
	assert_next(2, ""); /* as many places as are reserved */
	assert_next(3, "B");
	request("d");
	assert_next(1, "d");
	/* Without the policy it is the order of completion again. */
	assert_int_equal(demi_set_schedule(NULL, NULL, 0), 0);
	request("e");
	assert_next(2, "eC");
	request("Ff");
	assert_next(2, "Ff");
	assert_int_equal(called, 7);
	end();
}

/* What the policy holds back is there for other waits. */
static void test_other_waits(void **state)
{
	demi_qtoken_t tokens[3];
	demi_qresult_t qr;
	int ready;

	(void)state;
	begin(4);
	for (int i = 0; i < 3; i++) {
		push((char)('A' + i));
		tokens[i] = pop();
	}
	assert_next(4, "");
	assert_int_equal(demi_wait(&qr, tokens[1], &no_time), 0);
	assert_is(&qr, 'B');
	tokens[1] = tokens[2];
	assert_int_equal(demi_wait_any(&qr, &ready, tokens, 2, &no_time), 0);
	assert_int_equal(ready, 0);
	assert_is(&qr, 'A');
	assert_next(4, "");
	assert_int_equal(demi_wait_all(&qr, &tokens[1], 1, &no_time), 0);
	assert_is(&qr, 'C');
	assert_next(MANY, "");
	end();
}

static void push_later(void *arg)
{
	const char *letters = arg;

	for (; *letters; letters++) {
		assert_int_equal(demi_yield(), 0);
		push(*letters);
	}
}

/* A wait ends with the first result that may pass, not with a long one that may not. */
static void test_blocking(void **state)
{
	const struct timespec bound = {.tv_sec = NET_WAIT_S};
	demi_qresult_t qrs[MANY];
	int n;

	(void)state;
	begin(2);
	for (int i = 0; i < 3; i++)
		(void)pop();
	assert_int_equal(demi_go(push_later, (char[]){"ABa"}), 0);
	assert_int_equal(demi_wait_next_n(qrs, 2, &n, &bound), 0);
	assert_int_equal(n, 1);
	assert_is(&qrs[0], 'a');
	assert_next(4, "AB");
	end();
}

static void test_function(void **state)
{
	demi_qresult_t qr;
	int n;

	(void)state;
	begin(0);
	tries = true;
	request("a");
	assert_next(1, "a");
	tries = false;
	/* Failures are classified like all. */
	(void)pop();
	int old = queue;
	assert_int_equal(demi_queue(&queue), 0);
	assert_int_equal(demi_close(old), 0);
	assert_int_equal(demi_wait_next_n(&qr, 1, &n, &no_time), 0);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(called, 2);
	end();
}

static void test_errors(void **state)
{
	(void)state;
	assert_int_equal(demi_set_schedule(is_capital, NULL, -1), EINVAL);
	assert_int_equal(net_fini(NULL), 0);
	assert_int_equal(demi_set_schedule(NULL, NULL, 0), ENOSYS);
	assert_int_equal(net_init(NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_reserved, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_other_waits, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_blocking, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_function, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_errors, net_init, net_fini),
	};

	return test_run("schedule", tests);
}
