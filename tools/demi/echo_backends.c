/* SPDX-License-Identifier: MIT
 * tools/demi/echo_backends.c - the table of what `demi bench echo` can measure.
 */
#include "echo.h"

#include "tool.h"

#include <string.h>

#define BOTH (ECHO_TCP | ECHO_UDP)

static const struct echo_backend backends[] = {
	{.name = "catnap",
	 .protos = BOTH,
	 .library = true,
	 .logs = true,
	 .server = echo_queue_server,
	 .client = echo_queue_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "catnip",
	 .protos = BOTH,
	 .library = true,
	 .logs = true,
	 .device = true,
	 .server = echo_queue_server,
	 .client = echo_queue_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "catpowder",
	 .protos = BOTH,
	 .library = true,
	 .logs = true,
	 .device = true,
	 .server = echo_queue_server,
	 .client = echo_queue_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "catmint",
	 .protos = BOTH,
	 .library = true,
	 .logs = true,
	 .rdma = true,
	 .server = echo_queue_server,
	 .client = echo_queue_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "catmem",
	 .protos = ECHO_TCP,
	 .medium = ECHO_SHM,
	 .library = true,
	 .memory = true,
	 .local = true,
	 .client_connections = 1,
	 .server = echo_lone_server,
	 .client = echo_lone_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "catloop",
	 .protos = BOTH,
	 .library = true,
	 .memory = true,
	 .logs = true,
	 .server = echo_queue_server,
	 .client = echo_queue_client,
	 .sink = echo_lone_sink,
	 .source = echo_lone_source},
	{.name = "posix-block",
	 .protos = BOTH,
	 .logs = true,
	 .idle = "block",
	 .client_connections = 1,
	 .server = echo_block_server,
	 .client = echo_block_client,
	 .sink = echo_stream_sink,
	 .source = echo_stream_source},
	{.name = "posix-spin",
	 .protos = BOTH,
	 .logs = true,
	 .idle = "spin",
	 .client_connections = 1,
	 .server = echo_spin_server,
	 .client = echo_spin_client},
	{.name = "posix-epoll",
	 .protos = BOTH,
	 .logs = true,
	 .idle = "block",
	 .server = echo_epoll_server,
	 .client = echo_epoll_client},
	{.name = "io_uring",
	 .protos = ECHO_TCP,
	 .idle = "spin",
	 .client_connections = 1,
	 .server = echo_uring_server,
	 .client = echo_uring_client},
	{.name = "io_uring-block",
	 .protos = ECHO_TCP,
	 .idle = "block",
	 .client_connections = 1,
	 .server = echo_uring_block_server,
	 .client = echo_uring_block_client},
	{.name = "unix-block",
	 .protos = ECHO_TCP,
	 .medium = "unix",
	 .local = true,
	 .idle = "block",
	 .client_connections = 1,
	 .server = echo_block_server,
	 .client = echo_block_client,
	 .sink = echo_stream_sink,
	 .source = echo_stream_source},
	{.name = "pipe",
	 .protos = ECHO_TCP,
	 .medium = "pipe",
	 .local = true,
	 .idle = "block",
	 .client_connections = 1,
	 .sink = echo_pipe_sink,
	 .source = echo_pipe_source},
	{.name = "raw",
	 .protos = BOTH,
	 .device = true,
	 .idle = "spin",
	 .server = echo_raw_server,
	 .client = echo_raw_client,
	 .sink = echo_shm_sink,
	 .source = echo_shm_source},
	{.name = "lwip",
	 .protos = ECHO_TCP,
	 .device = true,
	 .idle = "spin",
	 .server = echo_lwip_server},
	{.name = "stackless", .protos = BOTH, .device = true, .client = echo_stackless_client},
	{.name = "generator", .protos = BOTH, .idle = "spin", .client = echo_generator_client},
};

const struct echo_backend *echo_backend_find(const char *name)
{
	for (size_t i = 0; i < TOOL_COUNT(backends); i++) {
		if (strcmp(backends[i].name, name) == 0)
			return &backends[i];
	}
	return NULL;
}

size_t echo_backend_count(void)
{
	return TOOL_COUNT(backends);
}

const struct echo_backend *echo_backend_at(size_t index)
{
	return &backends[index];
}
