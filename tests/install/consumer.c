/* tests/install/consumer.c: a user of the installed package, in C and in C++. tools/test puts every
 * installed header before it, builds it by pkg-config, and runs it. With the name of a device it
 * opens catpowder over that, as the environment says, and its status is that of demi_init.
 */
#include <stdio.h>

int main(int argc, char **argv)
{
	static struct demi_args args; /* zeros */

	if (printf("%s\n", demi_version()) < 0)
		return 1;
	if (argc < 2)
		return 0;
	return demi_set_config("libos", "catpowder") || demi_set_config("device", argv[1]) ||
	       demi_init(&args);
}
