/* Preloaded into turnutils_uclient 4.6.1, which takes channel numbers up to 0x7FFF from an 8-byte
 * random number modulo 0x3FFF, where RFC 8656 ends the range at 0x4FFF. Twelve bits stay within it. */
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

int RAND_bytes(unsigned char *buffer, int size)
{
	if (getrandom(buffer, (size_t)size, 0) != size)
		return 0;
	if (size == sizeof(uint64_t)) {
		uint64_t number;
		memcpy(&number, buffer, sizeof number);
		number &= 0x0fff;
		memcpy(buffer, &number, sizeof number);
	}
	return 1;
}
