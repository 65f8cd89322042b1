/* Moves the wall clock of one program by the seconds in the file JUMP, which may change while it runs; the monotonic
 * clock is left alone. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);

	if (result == 0 && clock == CLOCK_REALTIME) {
		char seconds[32] = "";
		int file = open(JUMP, O_RDONLY | O_CLOEXEC);

		if (file >= 0 && read(file, seconds, sizeof seconds - 1) > 0)
			now->tv_sec += atol(seconds);
		if (file >= 0)
			close(file);
	}
	return result;
}
