/* tests/support/qtest.h: QEMU's models of devices without a guest. A machine (q35) whose processor
 * does nothing; the test does what a driver would: it reaches registers by the qtest protocol, a
 * line of text each way, and the machine's memory is shared, so that what a device reads and writes
 * there the test sees at once.
 *
 * The machine is a process; it ends with qtest_stop, or with the test however that ends. When it
 * has ended, or not answered for 10 s, registers read as all ones and writes go nowhere: as with a
 * device that was pulled out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct qtest {
	pid_t pid;
	int fd;              /* -1: it does not answer */
	uint8_t *memory;     /* the machine's, address 0 first; devices reach all of it */
	size_t memory_bytes; /* a multiple of 1 MiB */
	int memory_fd;       /* the memfd that it is */
};

/* qtest_missing: why there can be no such machine here; NULL: there can. */
const char *qtest_missing(void);

/* qtest_start: a machine with that memory (1 MiB to 2 GiB) and further arguments of QEMU, as
 * -blockdev and -device, a NULL behind the last. 0; or -errno, -EPIPE if QEMU ended at once: it has
 * then said why on the standard error stream. */
int qtest_start(struct qtest *qtest, size_t memory_bytes, const char *const *arguments);

/* qtest_stop: ends the machine; harmless after a failed start. */
void qtest_stop(struct qtest *qtest);

/* Registers at an address of the machine's memory map, in the byte order of the host. */
uint32_t qtest_read32(struct qtest *qtest, uint64_t address);
uint64_t qtest_read64(struct qtest *qtest, uint64_t address);
void qtest_write32(struct qtest *qtest, uint64_t address, uint32_t value);
void qtest_write64(struct qtest *qtest, uint64_t address, uint64_t value);

/* The configuration space of the PCI device in a slot of bus 0 (addr=SLOT of -device). */
uint32_t qtest_pci_read(struct qtest *qtest, unsigned slot, unsigned offset);
void qtest_pci_write(struct qtest *qtest, unsigned slot, unsigned offset, uint32_t value);

/* qtest_pci_enable: puts the registers of BAR 0, a 64-bit one, at that address (at the end of the
 * memory or above), and lets the device answer and reach memory. */
void qtest_pci_enable(struct qtest *qtest, unsigned slot, uint64_t address);
