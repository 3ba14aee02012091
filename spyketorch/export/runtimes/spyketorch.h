/* Networks of integers in C99, as docs/integer.md has them: no allocation, no floats, no call of a library.

   #include "model.h"          the table of one network, which spyketorch.export makes of its file
   #include "spyketorch.h"     this file
   #include "refuse.h"         const char *spk_refuse(void): 0, or the sentence why the table cannot be trusted

   int32_t spk_decide(const uint8_t *image)     the class of SPK_IMAGE bytes (channels, rows, columns), or -1
   int32_t spk_answer[SPK_ANSWERS]              the answer behind it
   uint8_t spk_trace[SPK_TRACE]                 where SPK_TRACED is defined: the times of all parts

   Maps of times lie in memory with the features last, and weights do, too: what a spike adds to all neurons that see
   one place is a row, filled up with zeros to a multiple of SPK_LANES, so that compilers add many at once. A layer
   answers place by place, which needs the potentials of one place; and a pool whose windows do not overlap asks it for
   the places that it sees, so that the times of the layer are never kept. */

#ifndef SPK_VERSION
#error "include the table of a network, which spyketorch.export makes, before spyketorch.h"
#elif SPK_VERSION != 1 || SPK_STEPS < 1 || SPK_STEPS > 254
#error "this table is of another version than spyketorch.h, or not of 1 to 254 time steps"
#endif

#include <stdint.h>

typedef SPK_POTENTIAL spk_potential; /* int16_t where the range of all layers fits, else int32_t */
typedef SPK_WEIGHT spk_weight;       /* int16_t for each; or, if SPK_PACKED, uint8_t as in the file: bits beside bits */
#if SPK_LISTED < 65536
typedef uint16_t spk_index;
#else
typedef uint32_t spk_index;
#endif

enum { SPK_PAD, SPK_FILTER, SPK_ONOFF, SPK_NORMALISE, SPK_RANK, SPK_LATENCY, SPK_LIMITS }; /* the last three: times */
enum { SPK_WINNER, SPK_STEP, SPK_RAMP, SPK_LINEAR };

typedef struct { int32_t maps, rows, columns; } spk_shape;
typedef struct { int32_t rows, columns, stride[2], padding[2], dilation[2]; } spk_window;
typedef struct { int32_t earliest; spk_window window; } spk_pool; /* no shortcut: earliest 0 */
typedef struct { /* a part of the encoder, with the shape of what it makes; a .. d: see where they are used */
    int32_t op, a, b, c, d;
    spk_shape out;
    const int8_t *kernel;
    const int32_t *value, *limit;
} spk_part;
typedef struct { /* a row of weights for each input of each group; the range of their sums */
    int32_t groups, inputs, neurons, lanes, bits, is_signed, low, high;
    const spk_weight *weight;
} spk_synapses;
typedef struct { /* at_end: only the last step counts; pooled: not by a window of one place; keep: the layer's times */
    int32_t at_end, inhibit, pooled, keep;
    spk_shape layer, out;
    spk_synapses synapses;
    const spk_potential *threshold;
    spk_window window;
    spk_pool pool, shortcut;
} spk_stage;
typedef struct { /* value: thresholds, or the bias, or the classes of a winner */
    int32_t op, per_class;
    spk_synapses synapses;
    const int32_t *value;
} spk_reader;
typedef struct { /* maps of times in memory, a place every `stride`; or, without times, as a layer answers */
    const uint8_t *times;
    int32_t stride, inhibit;
    spk_shape shape;
    const spk_stage *stage;
    const uint8_t *given;
    spk_shape from;
} spk_source;

static const spk_part spk_parts[] = {SPK_ENCODER};
static const spk_stage spk_stages[] = {SPK_STAGES};
static const spk_reader spk_decision = {SPK_DECISION};
static const spk_pool spk_alone = {1, {1, 1, {1, 1}, {0, 0}, {1, 1}}};

static int32_t spk_memory[SPK_MEMORY];  /* maps: one end is read, the other written, the middle is for notes */
static spk_index spk_first[SPK_STEPS];  /* of each step the first input that fires then, */
static spk_index spk_next[SPK_LISTED];  /* and of each input the next of its step; SPK_LISTED: none */
static spk_potential spk_v[SPK_WIDTH], spk_late[SPK_WIDTH]; /* at one place: potentials; -1 if not fired yet, else 0; */
static spk_potential spk_when[SPK_WIDTH], spk_peak[SPK_WIDTH]; /* steps before the spike; the potential then */
static uint8_t spk_row[SPK_WIDTH], spk_sorted[SPK_SORTED];     /* the times of a place; the earliest of a window */
static int32_t spk_heard[SPK_NEURONS], spk_sum[SPK_NEURONS], spk_answer[SPK_ANSWERS < 3 ? 3 : SPK_ANSWERS];
#ifdef SPK_TRACED
static uint8_t spk_trace[SPK_TRACE];
static int32_t spk_traced;
#endif

static int32_t spk_size(spk_shape s) { return s.maps * s.rows * s.columns; }

/* ---- Adding and firing ---- */

/* Add the row of an input. Fields of bits begin with the lowest; (n ^ half) - half extends a sign. A loop of SPK_LANES
   turns is what compilers make vectors of. */
#if SPK_PACKED
#define SPK_ADD(name, type)                                                                     \
    static void name(const spk_synapses *s, int32_t input, type *v) {                           \
        int32_t bits = s->bits, mask = (1 << bits) - 1, half = s->is_signed << (bits - 1);      \
        const uint8_t *row = s->weight + input * (s->lanes * bits / 8);                         \
        for (const type *end = v + s->lanes; v < end; row++)                                    \
            for (int32_t bit = 0, n = *row; bit < 8; bit += bits, n >>= bits, v++)              \
                *v = (type)(*v + ((n & mask) ^ half) - half);                                   \
    }
#else
#define SPK_ADD(name, type)                                                                     \
    static void name(const spk_synapses *s, int32_t input, type *restrict v) {                  \
        const int16_t *restrict row = s->weight + input * s->lanes;                             \
        for (int32_t k = 0; k < s->lanes; k += SPK_LANES)                                       \
            for (int32_t l = k; l < k + SPK_LANES; l++) v[l] = (type)(v[l] + row[l]);           \
    }
#endif
SPK_ADD(spk_add, spk_potential)
SPK_ADD(spk_add_wide, int32_t)

static void spk_list_none(void) {
    for (int32_t t = 0; t < SPK_STEPS; t++) spk_first[t] = SPK_LISTED;
}

static void spk_list(int32_t input, int32_t t) {
    spk_next[input] = spk_first[t];
    spk_first[t] = (spk_index)input;
}

/* The end of a step, behind which nothing is heard for `gap` steps: who is above the threshold fires. */
static void spk_fire(const spk_potential *restrict threshold, int32_t begin, int32_t lanes, int32_t gap) {
    spk_potential *restrict v = spk_v + begin, *restrict late = spk_late + begin;
    spk_potential *restrict when = spk_when + begin, *restrict peak = spk_peak + begin;
    const spk_potential passed = (spk_potential)gap;
    for (int32_t k = 0; k < lanes; k += SPK_LANES)
        for (int32_t l = k; l < k + SPK_LANES; l++) {
            spk_potential still = (spk_potential)(late[l] & -(v[l] <= threshold[l]));
            peak[l] = (spk_potential)(peak[l] | (v[l] & (late[l] ^ still)));
            when[l] = (spk_potential)(when[l] + (still & passed));
            late[l] = still;
        }
}

/* The times of all neurons of a layer at a place; their potentials are in spk_peak then. */
static void spk_respond(const spk_source *at, int32_t y, int32_t x) {
    const spk_stage *s = at->stage;
    const spk_window *w = &s->window;
    const int32_t lanes = s->synapses.lanes, neurons = s->synapses.neurons;
    const int32_t channels = at->from.maps / s->synapses.groups;
    for (int32_t g = 0; g < s->synapses.groups; g++) {
        int32_t input = 0, begin = g * lanes;
        for (int32_t k = begin; k < begin + lanes; k++) {
            spk_v[k] = spk_when[k] = spk_peak[k] = 0;
            spk_late[k] = -1;
        }
        spk_list_none();
        for (int32_t i = 0; i < w->rows; i++)
            for (int32_t j = 0; j < w->columns; j++, input += channels) {
                int32_t row = y * w->stride[0] - w->padding[0] + i * w->dilation[0];
                int32_t column = x * w->stride[1] - w->padding[1] + j * w->dilation[1];
                if (row < 0 || row >= at->from.rows || column < 0 || column >= at->from.columns) continue;
                const uint8_t *times = at->given + (row * at->from.columns + column) * at->from.maps + g * channels;
                for (int32_t c = 0; c < channels; c++)
                    if (times[c] < SPK_STEPS) spk_list(input + c, s->at_end ? SPK_STEPS - 1 : times[c]);
            }
        for (int32_t t = 0, then; t < SPK_STEPS; t = then) {
            for (int32_t e = spk_first[t]; e != SPK_LISTED; e = spk_next[e])
                spk_add(&s->synapses, g * s->synapses.inputs + e, spk_v + begin);
            for (then = t + 1; then < SPK_STEPS && spk_first[then] == SPK_LISTED; then++) continue;
            spk_fire(s->threshold + begin, begin, lanes, then - t);
        }
        for (int32_t k = 0; k < neurons; k++) { /* g neurons + k <= begin + k: nothing is lost */
            spk_row[g * neurons + k] = (uint8_t)spk_when[begin + k];
            spk_peak[g * neurons + k] = spk_peak[begin + k];
        }
    }
    for (int32_t f = 1, best = 0; at->inhibit && f < s->layer.maps; f++) {
        int32_t later = spk_row[f] - spk_row[best], first = later < 0 || (later == 0 && spk_peak[f] > spk_peak[best]);
        spk_row[first ? best : f] = SPK_STEPS;
        if (first) best = f;
    }
}

/* ---- Maps of times ---- */

static const uint8_t *spk_at(const spk_source *s, int32_t place) {
    if (s->times) return s->times + place * s->stride;
    spk_respond(s, place / s->shape.columns, place % s->shape.columns);
    return spk_row;
}

static spk_source spk_lies(const uint8_t *times, int32_t stride, int32_t maps, spk_shape size) {
    spk_source found = {times, stride, 0, {maps, size.rows, size.columns}, 0, 0, {0, 0, 0}};
    return found;
}

/* A pool keeps the earliest times of each feature in order; the times of a place of its window sink in. */
static void spk_pooled(const spk_pool *p, const spk_source *from, spk_shape size, uint8_t *out, int32_t stride) {
    const int32_t maps = from->shape.maps, kept = p->earliest * maps;
    for (int32_t place = 0; place < size.rows * size.columns; place++) {
        int32_t top = place / size.columns * p->window.stride[0] - p->window.padding[0];
        int32_t left = place % size.columns * p->window.stride[1] - p->window.padding[1];
        for (int32_t k = 0; k < kept; k++) spk_sorted[k] = SPK_STEPS;
        for (int32_t y = top < 0 ? 0 : top; y < top + p->window.rows && y < from->shape.rows; y++)
            for (int32_t x = left < 0 ? 0 : left; x < left + p->window.columns && x < from->shape.columns; x++) {
                const uint8_t *times = spk_at(from, y * from->shape.columns + x);
                for (int32_t f = 0; f < maps; f++) {
                    uint8_t sinking = times[f];
                    for (int32_t k = f; k < kept; k += maps) {
                        uint8_t later = sinking > spk_sorted[k] ? sinking : spk_sorted[k];
                        spk_sorted[k] = sinking < spk_sorted[k] ? sinking : spk_sorted[k];
                        sinking = later;
                    }
                }
            }
        for (int32_t f = 0; f < maps; f++) out[place * stride + f] = spk_sorted[kept - maps + f];
    }
}

/* For the trace: features, rows, columns. A layer is asked once more; it answers the same. */
static void spk_note(spk_source s) {
#ifdef SPK_TRACED
    int32_t places = s.shape.rows * s.shape.columns;
    for (int32_t p = 0; p < places; p++) {
        const uint8_t *times = spk_at(&s, p);
        for (int32_t f = 0; f < s.shape.maps; f++) spk_trace[spk_traced + f * places + p] = times[f];
    }
    spk_traced += spk_size(s.shape);
#else
    (void)s;
#endif
}

/* ---- The encoder ---- */

/* Times by rank: places are sorted by the bytes of their values, the lowest byte first, counting from the largest. */
static void spk_rank(const int32_t *in, spk_shape size, int32_t *order, int32_t *other, uint8_t *out) {
    static int32_t begin[257];
    int32_t count = 0, largest = 0, places = size.rows * size.columns;
    for (int32_t i = 0; i < spk_size(size); i++) {
        out[i] = SPK_STEPS;
        if (in[i]) order[count++] = i;
        if (in[i] > largest) largest = in[i];
    }
    for (int32_t shift = 0; shift < 32 && largest >> shift; shift += 8) {
        for (int32_t b = 0; b <= 256; b++) begin[b] = 0;
        for (int32_t r = 0; r < count; r++) begin[256 - (in[order[r]] >> shift & 255)]++;
        for (int32_t b = 1; b <= 256; b++) begin[b] += begin[b - 1];
        for (int32_t r = 0; r < count; r++) other[begin[255 - (in[order[r]] >> shift & 255)]++] = order[r];
        int32_t *sorted = other;
        other = order;
        order = sorted;
    }
    int32_t each = count < SPK_STEPS ? 1 : count / SPK_STEPS;
    for (int32_t r = 0; r < count && r < each * SPK_STEPS; r++)
        out[order[r] % places * size.maps + order[r] / places] = (uint8_t)(r / each);
}

/* The time of a value by SPK_LATENCY or SPK_LIMITS; a, b, c: how far apart `largest` of maps, rows, columns lie. */
static uint8_t spk_time(const spk_part *p, int32_t value, int32_t m, int32_t y, int32_t x) {
    int32_t largest = p->value[m * p->a + y * p->b + x * p->c], t = 0;
    if (value == 0) return SPK_STEPS;
    if (p->op == SPK_LATENCY) t = value < largest ? (largest - value) * SPK_STEPS / largest : 0;
    else while (t < SPK_STEPS - 1 && value * (int64_t)1048576 < (int64_t)p->limit[t] * largest) t++; /* they fall */
    return (uint8_t)(t < SPK_STEPS ? t : SPK_STEPS - 1);
}

/* One value of the parts whose maps are integers. */
static int32_t spk_value(const spk_part *p, const int32_t *in, spk_shape from, int32_t m, int32_t y, int32_t x) {
    const int32_t places = from.rows * from.columns;
    int32_t sum = 0;
    if (p->op == SPK_PAD) { /* a, b: rows above, columns to the left; c: the edge goes on */
        int32_t i = y < p->a ? 0 : y - p->a < from.rows ? y - p->a : from.rows - 1;
        int32_t j = x < p->b ? 0 : x - p->b < from.columns ? x - p->b : from.columns - 1;
        return p->c || (i == y - p->a && j == x - p->b) ? in[m * places + i * from.columns + j] : 0;
    }
    if (p->op == SPK_FILTER) { /* a, b, d: rows, columns and channels of kernels; c: the sign is dropped */
        int32_t kernels = p->d == 1 ? p->out.maps / from.maps : p->out.maps, k = m % kernels;
        const int8_t *n = p->kernel + k * p->d * p->a * p->b;
        for (int32_t c = m / kernels; c < m / kernels + p->d; c++)
            for (int32_t i = 0; i < p->a; i++) {
                const int32_t *row = in + c * places + (y + i) * from.columns + x;
                for (int32_t j = 0; j < p->b; j++) sum += *n++ * row[j];
            }
        return sum < p->value[k] ? 0 : p->c && sum < 0 ? -sum : sum;
    }
    if (p->op == SPK_ONOFF) {
        int32_t here = in[m / 2 * places + y * from.columns + x], signed_here = m % 2 ? -here : here;
        return signed_here > 0 ? signed_here : 0;
    }
    /* SPK_NORMALISE: radius a, shift b */
    for (int32_t i = y < p->a ? 0 : y - p->a; i <= y + p->a && i < from.rows; i++)
        for (int32_t j = x < p->a ? 0 : x - p->a; j <= x + p->a && j < from.columns; j++)
            sum += in[m * places + i * from.columns + j];
    return sum ? (int32_t)(in[m * places + y * from.columns + x] * ((int64_t)1 << p->b) / sum) : 0;
}

/* Maps are written at the end of the memory that is not read; *middle is what both leave. */
static int32_t *spk_other_end(int32_t words, int32_t *in, int32_t read, int32_t **middle) {
    int32_t *out = in == spk_memory ? spk_memory + SPK_MEMORY - words : spk_memory;
    *middle = in == spk_memory ? in + read : out + words;
    return out;
}

static int32_t spk_words(spk_shape s) { return (spk_size(s) + 3) / 4; } /* of times */

static int32_t *spk_encode(const uint8_t *image) {
    spk_shape from = {SPK_IMAGE_SHAPE};
    int32_t *in = spk_memory, *out = in, *middle;
    for (int32_t i = 0; i < spk_size(from); i++) in[i] = image[i];
    for (const spk_part *p = spk_parts; p < spk_parts + SPK_PARTS; p++, in = out, from = p[-1].out) {
        int32_t size = spk_size(p->out), places = p->out.rows * p->out.columns, timed = p->op >= SPK_RANK;
        out = spk_other_end(timed ? spk_words(p->out) : size, in, spk_size(from), &middle);
        uint8_t *times = (uint8_t *)out;
        if (p->op == SPK_RANK) spk_rank(in, from, middle, middle + size, times);
        for (int32_t i = 0; i < size && p->op != SPK_RANK; i++) {
            int32_t m = i / places, y = i % places / p->out.columns, x = i % p->out.columns;
            if (timed) times[i % places * p->out.maps + m] = spk_time(p, in[i], m, y, x);
            else out[i] = spk_value(p, in, from, m, y, x);
        }
    }
    return out;
}

/* ---- The decision ---- */

static int32_t spk_winner(const spk_source *from) {
    const int32_t places = from->shape.rows * from->shape.columns;
    int32_t time = SPK_STEPS, peak = 0, flat = -1;
    for (int32_t p = 0; p < places; p++) {
        const uint8_t *times = spk_at(from, p);
        for (int32_t f = 0; f < from->shape.maps; f++) {
            int32_t later = times[f] - time, weaker = peak - spk_peak[f];
            if (times[f] == SPK_STEPS || later > 0) continue;
            if (later == 0 && (weaker > 0 || (weaker == 0 && f * places + p > flat))) continue;
            time = times[f];
            peak = spk_peak[f];
            flat = f * places + p;
        }
    }
    for (int32_t k = 0; k < 3; k++) spk_answer[k] = -1;
    if (flat < 0) return -1;
    spk_answer[0] = flat / places;
    spk_answer[1] = flat % places / from->shape.columns;
    spk_answer[2] = flat % from->shape.columns;
    return spk_decision.value[spk_answer[0]];
}

static void spk_hear(const spk_synapses *s, int32_t t) {
    for (int32_t e = t < SPK_STEPS ? spk_first[t] : SPK_LISTED; e != SPK_LISTED; e = spk_next[e])
        spk_add_wide(s, e, spk_heard);
}

/* What a step neuron heard is its potential; to that of a ramp it is added at the next step, and at all behind it.
   Linear scores are the bias and the potential of a ramp at step T: an input of the time t was added T - t times. */
static int32_t spk_read_out(const uint8_t *times) {
    const int32_t op = spk_decision.op, *value = spk_decision.value, never = 2147483647;
    const spk_synapses *s = &spk_decision.synapses;
    int32_t last = op == SPK_RAMP ? 4 * SPK_STEPS : op == SPK_LINEAR ? SPK_STEPS : SPK_STEPS - 1;
    int32_t any = 0, fired = 0, best = 0;
    spk_list_none();
    for (int32_t i = 0; i < s->inputs; i++)
        if (times[i] < SPK_STEPS) spk_list(i, times[i]), any = 1;
    for (int32_t k = 0; k < s->lanes; k++) spk_heard[k] = 0;
    for (int32_t k = 0; k < s->neurons; k++) {
        spk_sum[k] = op == SPK_LINEAR ? value[k] : 0;
        spk_answer[k] = never;
    }
    for (int32_t t = 0; t <= last; t++) {
        if (op == SPK_STEP) spk_hear(s, t);
        for (int32_t k = 0; k < s->neurons; k++) {
            int32_t before = spk_sum[k];
            spk_sum[k] = op == SPK_STEP ? spk_heard[k] : before + spk_heard[k];
            if (op == SPK_LINEAR || spk_sum[k] <= value[k] || spk_answer[k] != never) continue;
            int64_t part = 256 * ((int64_t)value[k] - before) / ((int64_t)spk_sum[k] - before); /* of the step */
            spk_answer[k] = 256 * (t - 1) + (int32_t)part;
            fired = 1;
        }
        if (op != SPK_STEP) spk_hear(s, t);
    }
    int64_t largest = INT64_MIN;
    for (int32_t k = 0; k < s->neurons; k++) {
        if (op == SPK_LINEAR) spk_answer[k] = spk_sum[k];
        int64_t score = op == SPK_LINEAR ? spk_sum[k] : fired ? -spk_answer[k] : (int64_t)spk_sum[k] - value[k];
        if (score <= largest) continue;
        largest = score;
        best = k;
    }
    return any ? best / spk_decision.per_class : -1;
}

static inline int32_t spk_decide(const uint8_t *image) {
    int32_t *in = spk_encode(image), *middle;
    spk_shape from = spk_parts[SPK_PARTS - 1].out;
#ifdef SPK_TRACED
    spk_traced = 0;
#endif
    spk_note(spk_lies((uint8_t *)in, from.maps, from.maps, from));
    for (const spk_stage *s = spk_stages; s < spk_stages + SPK_DEPTH; s++) {
        spk_source given = spk_lies((uint8_t *)in, from.maps, from.maps, from);
        spk_source layer = {0, 0, 0, s->layer, s, given.times, from};
        spk_note(layer);
        layer.inhibit = s->inhibit;
        if (s->inhibit) spk_note(layer);
        if (spk_decision.op == SPK_WINNER && s == spk_stages + SPK_DEPTH - 1) return spk_winner(&layer);
        int32_t *out = spk_other_end(spk_words(s->out), in, spk_words(from), &middle);
        uint8_t *times = (uint8_t *)out, *kept = (uint8_t *)middle;
        if (s->keep) {
            spk_pooled(&spk_alone, &layer, s->layer, kept, s->layer.maps);
            layer = spk_lies(kept, s->layer.maps, s->layer.maps, s->layer);
        }
        spk_pooled(&s->pool, &layer, s->out, times, s->out.maps);
        if (s->pooled) spk_note(spk_lies(times, s->out.maps, s->layer.maps, s->out));
        if (s->shortcut.earliest) {
            spk_pooled(&s->shortcut, &given, s->out, times + s->layer.maps, s->out.maps);
            spk_note(spk_lies(times + s->layer.maps, s->out.maps, from.maps, s->out));
        }
        in = out;
        from = s->out;
    }
    return spk_read_out((uint8_t *)in);
}
