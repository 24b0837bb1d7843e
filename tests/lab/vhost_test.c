/* tests/lab/vhost_test.c: qemu-storage-daemon serves vhost-user-blk to who connects: features,
 * queues and the size of the drive by the protocol's messages (QEMU's docs/interop/vhost-user); it
 * ends, which shows on the connection, and serves again.
 */
#include "support/test.h"

#include "support/storage_daemon.h"

#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRIVE_BYTES  (4 << 20)
#define QUEUES       2
#define WAIT_MS      10000
#define CONFIG_BYTES 60 /* of struct virtio_blk_config: what every daemon has */

enum {
	GET_FEATURES = 1,
	SET_OWNER = 3,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	GET_CONFIG = 24
};

enum { F_MQ = 0, F_CONFIG = 9 }; /* of the protocol */

enum { F_PROTOCOL_FEATURES = 30, F_VERSION_1 = 32 };

struct message {
	uint32_t request, flags, bytes;

	union {
		uint64_t number;

		struct {
			uint32_t offset, bytes, flags;
			uint8_t space[CONFIG_BYTES];
		} config;
	};
} __attribute__((packed));

#define HEADER offsetof(struct message, number)

static struct storage_daemon daemon_;

static int set_up(void **state)
{
	(void)state;
	return storage_daemon_missing() ? 0 : storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES);
}

static int tear_down(void **state)
{
	(void)state;
	storage_daemon_stop(&daemon_);
	return access(daemon_.file, F_OK) ? 0 : -1;
}

static void say(int fd, struct message message)
{
	message.flags = 1; /* version */
	assert_int_equal(send(fd, &message, HEADER + message.bytes, MSG_NOSIGNAL),
			 HEADER + message.bytes);
}

static struct message ask(int fd, struct message message)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	struct message answer;

	say(fd, message);
	assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
	assert_int_equal(recv(fd, &answer, HEADER, MSG_WAITALL), HEADER);
	assert_int_equal(answer.request, message.request);
	assert_in_range(answer.bytes, sizeof(answer.number), sizeof(answer) - HEADER);
	assert_int_equal(recv(fd, (uint8_t *)&answer + HEADER, answer.bytes, MSG_WAITALL),
			 answer.bytes);
	return answer;
}

/* Connects, and hears what the drive is. */
static int greet(void)
{
	int fd = storage_daemon_connect(&daemon_);
	struct virtio_blk_config config;

	assert_true(fd >= 0);
	say(fd, (struct message){.request = SET_OWNER});
	uint64_t features = ask(fd, (struct message){.request = GET_FEATURES}).number;
	assert_true(features >> F_VERSION_1 & 1);
	assert_true(features >> F_PROTOCOL_FEATURES & 1);
	assert_true(features >> VIRTIO_BLK_F_FLUSH & 1);
	features = ask(fd, (struct message){.request = GET_PROTOCOL_FEATURES}).number;
	assert_true(features >> F_MQ & 1);
	assert_true(features >> F_CONFIG & 1);
	say(fd, (struct message){.request = SET_PROTOCOL_FEATURES,
				 .bytes = 8,
				 .number = 1 << F_MQ | 1 << F_CONFIG});
	assert_int_equal(ask(fd, (struct message){.request = GET_QUEUE_NUM}).number, QUEUES);
	struct message message = {.request = GET_CONFIG, .bytes = sizeof(message) - HEADER};
	message.config.bytes = CONFIG_BYTES;
	message = ask(fd, message);
	memcpy(&config, message.config.space, CONFIG_BYTES);
	assert_int_equal(config.capacity, DRIVE_BYTES / 512);
	assert_int_equal(config.num_queues, QUEUES);
	return fd;
}

#define NEED_DAEMON                                             \
	do {                                                    \
		if (storage_daemon_missing())                   \
			skip_because(storage_daemon_missing()); \
	} while (0)

static void test_connect(void **state)
{
	(void)state;
	NEED_DAEMON;
	(void)close(greet());
}

static void test_dies_and_returns(void **state)
{
	(void)state;
	NEED_DAEMON;
	int fd = greet();
	struct pollfd ended = {.fd = fd, .events = POLLIN};
	storage_daemon_kill(&daemon_);
	assert_int_equal(poll(&ended, 1, WAIT_MS), 1);
	assert_true(ended.revents & POLLHUP);
	(void)close(fd);
	assert_true(storage_daemon_connect(&daemon_) < 0);
	assert_int_equal(storage_daemon_restart(&daemon_), 0);
	(void)close(greet());
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connect, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dies_and_returns, set_up, tear_down),
	};

	return test_run("vhost", tests);
}
