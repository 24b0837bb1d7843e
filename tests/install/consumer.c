/* tests/install/consumer.c: a user of the installed package, in C and in C++. tools/test puts every
 * installed header before it, builds it by pkg-config, and runs it.
 */
#include <stdio.h>

int main(void)
{
	return printf("%s\n", demi_version()) < 0;
}
