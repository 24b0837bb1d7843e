/* tests/support/qtest.c: see qtest.h. */
#include "support/qtest.h"

#include "support/child.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROGRAM       "qemu-system-x86_64"
#define FIRMWARE      65536 /* bytes; the last 16 are where the processor begins */
#define ANSWER_S      10
#define ARGUMENTS_MAX 64
#define TEXT_MAX      128

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define PCI_COMMAND    0x04
#define PCI_BAR0       0x10
#define MEMORY_AND_BUS 0x6 /* of the command register: answers at its BARs, may reach memory */

const char *qtest_missing(void)
{
	return test_has_program(PROGRAM) ? NULL : PROGRAM " is not installed (qemu-system-x86)";
}

static void close_valid(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

/* ---- the protocol ---- */

static void lost(struct qtest *qtest)
{
	close_valid(qtest->fd);
	qtest->fd = -1;
}

/* A line without its end; false: there is none. Answers are short and come one at a time. */
static bool receive(struct qtest *qtest, char line[TEXT_MAX])
{
	for (size_t length = 0; length < TEXT_MAX; length++) {
		if (read(qtest->fd, line + length, 1) != 1)
			return false;
		if (line[length] == '\n') {
			line[length] = '\0';
			return true;
		}
	}
	return false;
}

/* Sends a command; the value that the answer has, all ones if there is no answer. */
__attribute__((format(printf, 2, 3))) static uint64_t command(struct qtest *qtest,
							      const char *format, ...)
{
	char line[TEXT_MAX];
	va_list args;

	va_start(args, format);
	int length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (qtest->fd < 0)
		return UINT64_MAX;
	if (send(qtest->fd, line, (size_t)length, MSG_NOSIGNAL) != length ||
	    !receive(qtest, line) || strncmp(line, "OK", 2) != 0) {
		lost(qtest);
		return UINT64_MAX;
	}
	return strtoull(line + 2, NULL, 0);
}

uint32_t qtest_read32(struct qtest *qtest, uint64_t address)
{
	return (uint32_t)command(qtest, "readl 0x%" PRIx64 "\n", address);
}

uint64_t qtest_read64(struct qtest *qtest, uint64_t address)
{
	return command(qtest, "readq 0x%" PRIx64 "\n", address);
}

void qtest_write32(struct qtest *qtest, uint64_t address, uint32_t value)
{
	(void)command(qtest, "writel 0x%" PRIx64 " 0x%" PRIx32 "\n", address, value);
}

void qtest_write64(struct qtest *qtest, uint64_t address, uint64_t value)
{
	(void)command(qtest, "writeq 0x%" PRIx64 " 0x%" PRIx64 "\n", address, value);
}

static void select_config(struct qtest *qtest, unsigned slot, unsigned offset)
{
	(void)command(qtest, "outl 0x%x 0x%x\n", CONFIG_ADDRESS, 1u << 31 | slot << 11 | offset);
}

uint32_t qtest_pci_read(struct qtest *qtest, unsigned slot, unsigned offset)
{
	select_config(qtest, slot, offset);
	return (uint32_t)command(qtest, "inl 0x%x\n", CONFIG_DATA);
}

void qtest_pci_write(struct qtest *qtest, unsigned slot, unsigned offset, uint32_t value)
{
	select_config(qtest, slot, offset);
	(void)command(qtest, "outl 0x%x 0x%" PRIx32 "\n", CONFIG_DATA, value);
}

void qtest_pci_enable(struct qtest *qtest, unsigned slot, uint64_t address)
{
	qtest_pci_write(qtest, slot, PCI_BAR0, (uint32_t)address);
	qtest_pci_write(qtest, slot, PCI_BAR0 + 4, (uint32_t)(address >> 32));
	qtest_pci_write(qtest, slot, PCI_COMMAND, MEMORY_AND_BUS);
}

/* ---- the process ---- */

/* Firmware that stops the processor: with QEMU's own, drivers in it would use the devices too. */
static int make_firmware(void)
{
	static const uint8_t halt[] = {0xfa, 0xf4, 0xeb, 0xfd}; /* cli; hlt; jmp to hlt */
	int fd = memfd_create("firmware", MFD_CLOEXEC);

	if (fd >= 0 && (ftruncate(fd, FIRMWARE) ||
			pwrite(fd, halt, sizeof(halt), FIRMWARE - 16) != (ssize_t)sizeof(halt))) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

static int spawn(struct qtest *qtest, int firmware, int memory, int protocol,
		 const char *const *arguments)
{
	char bios[TEXT_MAX], size[TEXT_MAX], backend[TEXT_MAX], chardev[TEXT_MAX];
	const char *argv[ARGUMENTS_MAX] = {
		PROGRAM,    "-machine", "q35,memory-backend=memory",
		"-accel",   "tcg",      "-m",
		size,       "-object",  backend,
		"-bios",    bios,       "-nodefaults",
		"-display", "none",     "-chardev",
		chardev,    "-object",  "qtest,id=protocol,chardev=commands,log=/dev/null"};
	size_t num = 0;

	while (argv[num])
		num++;
	while (*arguments) {
		if (num == ARGUMENTS_MAX - 1)
			return -E2BIG;
		argv[num++] = *arguments++;
	}
	(void)snprintf(size, sizeof(size), "%zuM", qtest->memory_bytes >> 20);
	(void)snprintf(bios, sizeof(bios), "/proc/self/fd/%d", firmware);
	(void)snprintf(backend, sizeof(backend),
		       "memory-backend-file,id=memory,size=%zu,mem-path=/proc/self/fd/%d,share=on",
		       qtest->memory_bytes, memory);
	(void)snprintf(chardev, sizeof(chardev), "socket,id=commands,fd=%d", protocol);
	pid_t pid = test_spawn(argv, (const int[]){firmware, memory, protocol, -1});
	if (pid < 0)
		return (int)pid;
	qtest->pid = pid;
	return 0;
}

int qtest_start(struct qtest *qtest, size_t memory_bytes, const char *const *arguments)
{
	static const struct timeval patience = {.tv_sec = ANSWER_S};
	int pair[2] = {-1, -1};
	int memory = memfd_create("memory", MFD_CLOEXEC);
	int firmware = make_firmware();
	int err = memory < 0 || firmware < 0 || ftruncate(memory, (off_t)memory_bytes) ||
				  socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)
			  ? -errno
			  : 0;

	*qtest = (struct qtest){.fd = pair[0], .memory_bytes = memory_bytes, .memory_fd = memory};
	if (!err) {
		void *at = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
		if (at == MAP_FAILED)
			err = -errno;
		else
			qtest->memory = at;
	}
	if (!err)
		err = spawn(qtest, firmware, memory, pair[1], arguments);
	close_valid(firmware);
	close_valid(pair[1]);
	if (!err) { /* the host bridge answers once the machine is there */
		(void)setsockopt(qtest->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		(void)qtest_pci_read(qtest, 0, 0);
		err = qtest->fd < 0 ? -EPIPE : 0;
	}
	if (err)
		qtest_stop(qtest);
	return err;
}

void qtest_stop(struct qtest *qtest)
{
	if (qtest->pid > 0)
		test_kill(qtest->pid);
	lost(qtest);
	if (qtest->memory)
		(void)munmap(qtest->memory, qtest->memory_bytes);
	close_valid(qtest->memory_fd);
	*qtest = (struct qtest){.fd = -1, .memory_fd = -1};
}
