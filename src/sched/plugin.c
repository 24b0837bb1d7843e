/* SPDX-License-Identifier: MIT */
#include "sched/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define PLUGIN_PATH_MAX 512

static const struct plugin_core plugin_core = {
#define PLUGIN_CALL(result, name, parameters, arguments) .name = name,
#include "sched/plugin.def"
#undef PLUGIN_CALL
	.pages = &pages_process,
};

/* The directory of the shared object or program that this code is in; false: unknown. */
static bool own_directory(char *out, size_t room)
{
	Dl_info info;
	char *slash;

	if (!dladdr(&plugin_core, &info) || !info.dli_fname || strlen(info.dli_fname) >= room)
		return false;
	(void)snprintf(out, room, "%s", info.dli_fname);
	slash = strrchr(out, '/');
	if (slash)
		*slash = '\0';
	return slash != NULL;
}

/* Writes the path in a directory, or in one below it, if the file is there. */
static bool find_in(const char *directory, const char *below, const char *name, char *path)
{
	int length =
		snprintf(path, PLUGIN_PATH_MAX, "%s%s/libdemitasse-%s.so", directory, below, name);

	return length < PLUGIN_PATH_MAX && access(path, R_OK) == 0;
}

/* Has the program more privilege than its user (setuid, capabilities of its file)?  Then it loads
 * only what was installed: the user chooses environment, configuration and the program's name. */
static bool is_privileged(void)
{
	return getauxval(AT_SECURE) != 0;
}

static bool find(const struct sched *sched, const char *name, char *path)
{
	char directory[PLUGIN_PATH_MAX];

	if (is_privileged())
		return find_in(DEMI_PLUGIN_DIRECTORY, "", name, path);
	if (*sched->config.plugin_dir)
		return find_in(sched->config.plugin_dir, "", name, path);
	return (own_directory(directory, sizeof(directory)) &&
		(find_in(directory, "", name, path) ||
		 find_in(directory, "/demitasse", name, path))) ||
	       find_in(DEMI_PLUGIN_DIRECTORY, "", name, path);
}

/* What keeps it from being used; NULL: nothing. */
static const char *misfit(const struct plugin *plugin)
{
	if (!plugin)
		return "is no plug-in (it has no " PLUGIN_SYMBOL ")";
	if (plugin->abi != PLUGIN_ABI)
		return "is a plug-in of another binary interface";
	if (strcmp(plugin->version, DEMI_VERSION_TEXT) != 0)
		return "is a plug-in of another version";
	if (plugin->layout != PLUGIN_LAYOUT)
		return "is a plug-in of another build, with other options";
	return NULL;
}

/* Does it fit this library?  0 or -ENOEXEC, told. */
static int check(const struct sched *sched, const char *path, const struct plugin *plugin)
{
	const char *why = misfit(plugin);

	if (!why)
		return 0;
	log_write(&sched->log, LOG_LEVEL_ERROR,
		  "%s: %s: install library (%s) and plug-in from one build, or set "
		  "demitasse.plugin_dir",
		  path, why, DEMI_VERSION_TEXT);
	return -ENOEXEC;
}

/* -ENOENT, told. */
static int missing(const struct sched *sched, const char *name)
{
	const char *directory =
		*sched->config.plugin_dir ? sched->config.plugin_dir : DEMI_PLUGIN_DIRECTORY;

	if (is_privileged())
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "libdemitasse-%s.so: not in %s, the one directory that a program with "
			  "more privilege than its user heeds: install it",
			  name, DEMI_PLUGIN_DIRECTORY);
	else
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "libdemitasse-%s.so: not beside the library, nor in %s: it is in a build "
			  "whose dependencies were there, or set demitasse.plugin_dir",
			  name, directory);
	return -ENOENT;
}

int plugin_load(struct sched *sched, const char *name, const struct plugin **plugin_out)
{
	char path[PLUGIN_PATH_MAX];

	if (!find(sched, name, path))
		return missing(sched, name);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "plug-in: %s", dlerror());
		return -ENOEXEC;
	}
	const struct plugin *plugin = dlsym(handle, PLUGIN_SYMBOL);
	int err = check(sched, path, plugin);
	if (err) {
		(void)dlclose(handle);
		return err;
	}
	plugin->attach(&plugin_core);
	*plugin_out = plugin;
	return 0;
}
