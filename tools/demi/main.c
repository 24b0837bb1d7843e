/* tools/demi/main.c: the demi command. */
#include <demi/instance.h>

#include <stdio.h>

int main(void)
{
	return puts(demi_version()) < 0;
}
