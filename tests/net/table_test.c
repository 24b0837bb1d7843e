/* SPDX-License-Identifier: MIT
 * tests/net/table_test.c - netdev/table.c: the device that the configuration names, with the
 * middleware that it asks for around it, and nothing left of it when that is refused.
 */
#include "support/test.h"

#include "netdev/netdev.h"
#include "netdev/pcap/pcap.h"
#include "support/net.h"
#include "support/netns.h"
#include "support/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_PRIVILEGE "privilege: a network namespace of its own needs root"

static bool privileged;
static struct rig rig;
static char told[LOG_MESSAGE_MAX];

static void note(void *arg, int level, const char *message)
{
	(void)arg;
	if (level == LOG_LEVEL_ERROR)
		(void)snprintf(told, sizeof(told), "%s", message);
}

/* A sched that asks for TAP interface tap8. */
static void begin(const char *fault, const char *capture)
{
	assert_int_equal(rig_open(&rig, &(struct rig_options){0}), 0);
	struct config *config = &rig.sched.config;
	config->device = 1;
	(void)snprintf(config->interface, sizeof(config->interface), "tap8");
	(void)snprintf(config->fault, sizeof(config->fault), "%s", fault);
	(void)snprintf(config->capture, sizeof(config->capture), "%s", capture);
	rig.sched.log.fn = note;
	*told = '\0';
}

/* Opens, starts and closes; the chain is as it should be. */
static void expect_open(const char *fault, const char *capture, const char *name)
{
	struct netdev *dev;

	begin(fault, capture);
	assert_int_equal(netdev_open(&rig.sched, &dev), 0);
	assert_string_equal(dev->ops->name, name);
	dev->sched = &rig.sched;
	heap_set_frames(rig.sched.heap, frame_object_bytes(dev->mtu), 256);
	assert_int_equal(dev->ops->start(dev), 0);
	assert_int_equal(dev->mtu, 1500);
	assert_true(netns_try("ip link show tap8 >/dev/null 2>&1"));
	dev->ops->close(dev);
	assert_false(netns_try("ip link show tap8 >/dev/null 2>&1"));
	rig_close(&rig);
}

static void expect_refused(const char *fault, const char *capture, int err, const char *words)
{
	int fds = net_count_fds();
	struct netdev *dev;

	begin(fault, capture);
	assert_int_equal(netdev_open(&rig.sched, &dev), err);
	assert_non_null(strstr(told, words));
	rig_close(&rig);
	assert_int_equal(net_count_fds(), fds);
	assert_false(netns_try("ip link show tap8 >/dev/null 2>&1"));
}

static void test_middleware(void **state)
{
	char path[] = "/tmp/table_test.XXXXXX";

	(void)state;
	if (!privileged)
		skip_because(NO_PRIVILEGE);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	expect_open("", "", "tap");
	expect_open("drop=1%", "", "fault");
	expect_open("", path, "pcap");
	expect_open("delay=1ms", path, "pcap");
	assert_int_equal(unlink(path), 0);
}

static void test_refused(void **state)
{
	(void)state;
	if (!privileged)
		skip_because(NO_PRIVILEGE);
	expect_refused("drop=101%", "", -EINVAL, "demitasse.fault: \"drop=101%\"");
	expect_refused("drop=101%", "/tmp", -EINVAL, "demitasse.fault: \"drop=101%\"");
	expect_refused("", "/nowhere/at/all", -ENOENT, "demitasse.capture: \"/nowhere/at/all\"");
	expect_refused("drop=1%", "/nowhere/at/all", -ENOENT, "demitasse.capture");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_middleware),
		cmocka_unit_test(test_refused),
	};

	privileged = netns_enter();
	return test_run("table", tests);
}
