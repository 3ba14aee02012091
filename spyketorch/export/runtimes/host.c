/* Images from standard input, their traces to standard output; without SPK_TRACED answers and decisions alone.

   cc -std=c99 -O2 -DSPK_TRACED host.c -o model      with the table model.h beside it */

#include <stdio.h>

#include "model.h"
#include "spyketorch.h"
#include "refuse.h"

static int write_number(int32_t value) { /* the least significant byte first, on any machine */
    uint8_t bytes[4];
    for (int k = 0; k < 4; k++) bytes[k] = (uint8_t)((uint32_t)value >> (8 * k));
    return fwrite(bytes, 1, 4, stdout) == 4;
}

int main(void) {
    static uint8_t image[SPK_IMAGE];
    const char *reason = spk_refuse();
    size_t got = 0;
    int well = 1;
    while (!reason && well && (got = fread(image, 1, SPK_IMAGE, stdin)) == SPK_IMAGE) {
        int32_t decision = spk_decide(image);
#ifdef SPK_TRACED
        well = fwrite(spk_trace, 1, SPK_TRACE, stdout) == SPK_TRACE;
#endif
        for (int k = 0; k < SPK_ANSWERS; k++) well = write_number(spk_answer[k]) && well;
        well = write_number(decision) && well;
    }
    if (well && got) reason = "standard input ends within an image";
    if (!well) reason = "standard output takes no more";
    if (reason) fprintf(stderr, "%s\n", reason);
    return reason != 0;
}
