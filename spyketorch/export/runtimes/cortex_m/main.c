/* A Cortex-M that reads the file `images` and writes the file `traces` of the machine of its emulator or debugger
   (semihosting); with SPK_COUNTED also the file `ticks`: of each image the turns of SysTick, 4 bytes. It starts here.

   arm-none-eabi-gcc -std=c99 -mcpu=cortex-m3 -mthumb -Os -ffreestanding -nostdlib -T cortex_m/flash.ld -I. \
       cortex_m/main.c -lgcc -o model.elf
   qemu-system-arm -M mps2-an385 -display none -monitor none -serial none -semihosting -kernel model.elf */

#include "model.h"
#include "spyketorch.h"
#include "refuse.h"

extern uint32_t spk_bss_begin[], spk_bss_end[], spk_stack_top[];

void *memset(void *to, int value, unsigned long count); /* what compilers call for loops that fill or copy */
void *memcpy(void *restrict to, const void *restrict from, unsigned long count);
void reset(void);
void tick(void);

enum { OPEN = 1, WRITE_TEXT = 4, WRITE = 5, READ = 6, EXIT = 32, READ_BYTES = 1, WRITE_BYTES = 5 };

static int ask(int operation, const void *about) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = about;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int file(const char *name, uint32_t mode) {
    uint32_t length = 0;
    while (name[length]) length++;
    const uint32_t about[3] = {(uint32_t)name, mode, length};
    return ask(OPEN, about);
}

static uint32_t left(int operation, int handle, const void *bytes, uint32_t count) { /* not read, or not written */
    const uint32_t about[3] = {(uint32_t)handle, (uint32_t)bytes, count};
    return (uint32_t)ask(operation, about);
}

#ifdef SPK_COUNTED
#define SYSTICK ((volatile uint32_t *)0xe000e010) /* control, reload, current: 24 bits that count down */
static volatile uint32_t spk_rounds;
void tick(void) { spk_rounds++; }
static uint32_t spk_now(void) { return (spk_rounds << 24) + (-SYSTICK[2] & 0xffffff); }
#else
void tick(void) {}
static uint32_t spk_now(void) { return 0; }
#endif

static int run(void) {
    static uint8_t image[SPK_IMAGE];
    int images = file("images", READ_BYTES), traces = file("traces", WRITE_BYTES), ticks = -1;
    const char *reason = spk_refuse();
    if (reason) {
        ask(WRITE_TEXT, reason);
        return 1;
    }
#ifdef SPK_COUNTED
    ticks = file("ticks", WRITE_BYTES);
    SYSTICK[1] = 0xffffff;
    SYSTICK[0] = 7; /* the processor's clock, an interrupt at 0, on */
#endif
    uint32_t missing = 1;
    while (images >= 0 && traces >= 0 && (missing = left(READ, images, image, SPK_IMAGE)) == 0) {
        uint32_t begin = spk_now();
        int32_t decision = spk_decide(image);
        uint32_t took = spk_now() - begin;
        missing = ticks < 0 ? 0 : left(WRITE, ticks, &took, 4);
#ifdef SPK_TRACED
        missing += left(WRITE, traces, spk_trace, SPK_TRACE);
#endif
        missing += left(WRITE, traces, spk_answer, 4 * SPK_ANSWERS); /* the least significant byte first, as this is */
        missing += left(WRITE, traces, &decision, 4);
        if (missing) break;
    }
    if (missing == SPK_IMAGE) return 0;
    ask(WRITE_TEXT, "files cannot be opened, read or written, or end within an image");
    return 1;
}

void reset(void) {
    for (volatile uint32_t *word = spk_bss_begin; word < spk_bss_end; word++) *word = 0;
    const int32_t about[2] = {0x20026, run()};
    for (;;) ask(EXIT, about);
}

void *memset(void *to, int value, unsigned long count) {
    for (volatile uint8_t *byte = to; count > 0; count--) *byte++ = (uint8_t)value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, unsigned long count) {
    const uint8_t *read = from;
    for (volatile uint8_t *byte = to; count > 0; count--) *byte++ = *read++;
    return to;
}

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors;

__attribute__((section(".vectors"), used)) static const vectors spk_vectors = {
    spk_stack_top, {reset, 0, reset, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, tick}};
