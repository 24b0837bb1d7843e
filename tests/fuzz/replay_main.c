/* tests/fuzz/replay_main.c: runs a fuzz target over a corpus, without a fuzzer: an empty input,
 * then every file of the directory in order of name. Prints TAP; the name of an input stands before
 * it runs, so that a crash names its cause. Each input lies in an allocation of exactly its size,
 * for the sanitizers.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static _Noreturn void bail_out(const char *what, const char *path)
{
	printf("Bail out! cannot %s %s\n", what, path);
	exit(1);
}

static void run(const uint8_t *data, size_t size, int number, const char *name)
{
	printf("# input %s, %zu bytes\n", name, size);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	printf("ok %d - %s\n", number, name);
}

static void run_file(const char *directory, const char *name, int number)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "rb");
	struct stat st;
	if (!file || fstat(fileno(file), &st))
		bail_out("open", path);
	size_t size = (size_t)st.st_size;
	uint8_t *data = malloc(size ? size : 1);
	if (!data || fread(data, 1, size, file) != size)
		bail_out("read", path);
	fclose(file);
	run(data, size, number, name);
	free(data);
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	if (argc != 2)
		bail_out("run without", "DIRECTORY");
	struct dirent **entries;
	int num_entries = scandir(argv[1], &entries, is_input, alphasort);
	if (num_entries < 0)
		bail_out("list", argv[1]);
	printf("1..%d\n", num_entries + 1);
	run((const uint8_t[1]){0}, 0, 1, "(empty)");
	for (int i = 0; i < num_entries; i++) {
		run_file(argv[1], entries[i]->d_name, i + 2);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
